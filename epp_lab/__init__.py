"""Which policy is better, and by how much? Workloads replayed in virtual time.

The picker's side is the code that serves (datastore, policy, scheduler, tickets), the replicas are
the simulator's engines; only time and the network are made up here. It opens no socket and reads no
clock: one seed, one result. Open `simulation.py` first, then `workload.py`.
"""
