"""The descriptor pool of the generated modules, apart from the process-wide one.

Another package may bring the same messages; one pool would refuse the second.
"""

from google.protobuf import struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
POOL.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
