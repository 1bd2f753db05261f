"""Hours of mixed traffic through real Envoy, with troubles: memory stays flat, nothing is left.

    python test/conformance/soak.py --minutes 60 --rate 300 [--variant duplex-full] [--json FILE]

Real Envoy, the picker with its default policy and certificate files, three cheap model servers.
Every `--every` seconds one of these: a model server is killed and started again, certificates are
issued anew, an endpoint leaves the file and comes back, the configuration changes, or is broken and
mended. Prints a line a minute and what was judged; exits 1 when something was at fault.
"""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import uvloop
from support import soak_judge as judge
from support.gateway import Variant
from support.soak_judge import Sample, Verdict
from support.soak_stand import Stand, standing
from support.soak_traffic import Disturbances, Traffic
from support.soak_trouble import Troubles
from support.soak_watch import FAULTS, Watch, log_lines

SETTLE_SECONDS = 3.0
REST_SECONDS = 60.0
TROUBLE_ENDS_SECONDS = 20.0
"""Before the end of the traffic no new trouble begins."""
REFUSED = "error: configuration refused, the old one stays"
GAVE_UP = ("failure_mode_allowed", "streams_failed", "spurious_msgs_received", "message_timeouts")
"""Envoy's counters of a picker that failed it."""
RESET = re.compile(r"reset reason: ([a-z ]+)")


@dataclass
class Found:
    """What a run came to."""

    verdicts: list[Verdict] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return all(verdict.good for verdict in self.verdicts)


class Soak:
    """One run on a stand."""

    def __init__(self, stand: Stand, options: argparse.Namespace) -> None:
        self._stand = stand
        self._seconds = options.minutes * 60
        self._rate = options.rate
        self._away = Disturbances()
        address = stand.house.envoy.address
        self._traffic = Traffic(address, options.rate, self._away, seed=options.seed)
        self._troubles = Troubles(stand, self._away, options.every)
        self._watch = Watch(stand.house, self._tell)
        self._told = (0.0, 0.0, 0)

    async def run(self) -> Found:
        await asyncio.sleep(SETTLE_SECONDS)
        before = await self._watch.count()
        await self._traffic_and_trouble()
        rest = await self._rests()
        after = await self._watch.count()
        found = Found(facts=self._facts())
        found.verdicts += judge.at_rest(before, after, rest)
        found.verdicts += self._of_samples()
        found.verdicts += self._of_requests()
        found.verdicts += [self._of_log(), await self._of_envoy(), self._of_troubles()]
        return found

    async def _traffic_and_trouble(self) -> None:
        """The first of them to fail ends the others."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch.run())
            sending = group.create_task(self._traffic.run())
            making = group.create_task(self._troubles.run(self._seconds - TROUBLE_ENDS_SECONDS))
            await asyncio.sleep(self._seconds)
            await making
            self._traffic.stop()
            await sending
            watching.cancel()

    async def _rests(self) -> dict[str, float]:
        """The counters once all are zero, or as they are after a while."""
        end = time.monotonic() + REST_SECONDS
        while any((left := await self._stand.house.counters()).values()):
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.5)
        await asyncio.sleep(SETTLE_SECONDS)
        return await self._stand.house.counters() if not any(left.values()) else left

    def _tell(self, sample: Sample) -> None:
        at, cpu, sent = self._told
        if sample.at - at < 60.0:
            return
        tally = self._traffic.tally
        self._told = (sample.at, sample.cpu_seconds, tally.sent)
        share = (sample.cpu_seconds - cpu) / (sample.at - at)
        rate = (tally.sent - sent) / (sample.at - at)
        print(
            f"{sample.at / 60:5.1f} min  {rate:5.0f}/s  {share:5.1%} of a core  "
            f"{sample.rss_mb:6.1f} MiB  {sample.files} files  {sample.tasks} tasks  "
            f"{sample.open} open  {sample.blocks} blocks  lag {sample.lag_ms:.1f} ms  "
            f"{tally.failed} failed  {sum(self._troubles.made.values())} troubles",
            flush=True,
        )

    def _of_samples(self) -> list[Verdict]:
        samples = self._watch.samples
        return [
            judge.memory(samples),
            judge.flat("files", samples, lambda sample: sample.files),
            judge.flat("tasks", samples, lambda sample: sample.tasks),
        ]

    def _of_requests(self) -> list[Verdict]:
        tally = self._traffic.tally
        calm = sum(tally.calm.values())
        told = f"{tally.failed} of {calm} calm requests; the first: {tally.failures[:3]}"
        return [
            Verdict("requests", calm > 0 and not tally.failed, told),
            judge.pace(tally.sent, self._traffic.seconds, self._rate),
        ]

    def _of_log(self) -> Verdict:
        lines, strange = log_lines(self._stand.house.picker.log_text())
        faults = {line: count for line, count in lines.items() if line.startswith(FAULTS)}
        provoked = faults.pop(REFUSED, 0)
        good = not faults and not strange and provoked == self._troubles.refused_configs
        told = f"{faults or 'no fault'}, {provoked} refused configurations, {strange[:3]}"
        return Verdict("log", good, told)

    async def _of_envoy(self) -> Verdict:
        stats = await self._stand.house.envoy.stats("ext_proc")
        connections = stats["cluster.ext_proc.upstream_cx_total"]
        seen = {name: stats[name] for name in stats if name.endswith(GAVE_UP) and stats[name]}
        why = Counter(RESET.findall(self._stand.house.envoy.log_text()))
        told = f"{seen or 'nothing'}, {dict(why)}; {connections} connections to it"
        return Verdict("what Envoy counts against the picker", not seen, told)

    def _of_troubles(self) -> Verdict:
        made, failed = dict(self._troubles.made), self._troubles.failed
        return Verdict("troubles", bool(made) and not failed, f"{made}; {failed[:3]}")

    def _facts(self) -> dict[str, object]:
        samples, tally = self._watch.samples, self._traffic.tally
        cpu = samples[-1].cpu_seconds - samples[0].cpu_seconds if samples else 0.0
        watched = samples[-1].at - samples[0].at if samples else 0.0
        lines, _ = log_lines(self._stand.house.picker.log_text())
        return {
            "seconds": round(self._traffic.seconds, 1),
            "sent": tally.sent,
            "skipped": tally.skipped,
            "client_late_ms": round(self._traffic.late * 1e3, 2),
            "disturbed_seconds": round(self._away.seconds, 1),
            "cores": round(cpu / watched, 4) if watched else None,
            "worst_lag_ms": round(max((s.lag_ms for s in samples), default=0.0), 2),
            "peaks": dict(self._watch.peaks),
            "statuses": tally.table(),
            "failures": tally.failures,
            "troubles": dict(self._troubles.made),
            "log": dict(lines),
            "samples": [asdict(sample) for sample in samples],
        }


def table(tally: Sequence[dict[str, object]]) -> str:
    """Kinds by how they ended."""
    rows = [f"{'kind':26} {'ended':26} {'calm':>9} {'disturbed':>9}"]
    for row in tally:
        rows.append(
            f"{row['kind']!s:26} {row['ended']!s:26} {row['calm']:>9} {row['disturbed']:>9}"
        )
    return "\n".join(rows)


def variant_of(options: argparse.Namespace) -> Variant:
    request, response = options.variant.split("-")
    flags = tuple(options.picker_flag)
    return Variant(request, response, wire=options.wire, picker_flags=flags)


async def soak(options: argparse.Namespace) -> Found:
    task = asyncio.current_task()
    assert task is not None
    # Who ends us ends what we started, too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with standing(variant_of(options)) as stand:
        return await Soak(stand, options).run()


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two troubles")
    parser.add_argument("--variant", default="buffered-watch", help="request-response modes")
    parser.add_argument("--wire", default="http2", choices=["http2", "grpcio"])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--picker-flag", action="append", default=[], help="repeatable")
    parser.add_argument("--json", type=Path, help="where the figures go")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        found = uvloop.run(soak(options))
    except asyncio.CancelledError:
        return 1
    facts = found.facts
    print(table(facts["statuses"]))
    print(
        f"{facts['sent']} requests in {facts['seconds']} s, {facts['cores']} cores, "
        f"worst lag {facts['worst_lag_ms']} ms, {facts['disturbed_seconds']} s disturbed, "
        f"the client at most {facts['client_late_ms']} ms late"
    )
    print("\n".join(map(str, found.verdicts)))
    if options.json:
        verdicts = [asdict(verdict) for verdict in found.verdicts]
        asked = {name: str(value) for name, value in vars(options).items()}
        told = {"asked": asked, "good": found.good, "verdicts": verdicts, **facts}
        options.json.write_text(json.dumps(told, indent=1))
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
