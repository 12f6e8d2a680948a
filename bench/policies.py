"""The scheduling policies side by side, on a real Docker Engine.

    python -m bench.policies [--requests 120] [--clients 12] [--seed 1] [--json FILE]

One place, three containers that take 2 s to become healthy, `max_wait` 8 s. Half of the
clients ask in a loop: they wait for their answer, think for a moment, and ask the same model
again. The other half asks whatever model it likes at random times, answered or not. Each
policy gets the same requests, and a `launcher serve` of its own that begins with all
containers stopped. A wait is the time from asking to the answer's first word, as the client
sees it. Starts are counted by the engine's events and by the launcher's metrics.

The exit code is 1 if an answer wasn't whole, two containers ran at once, or the two counts
differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import aiohttp

from bench.scheduling.common import ALL, columns, number
from launcher.simulate.measure import Waits, waits
from launcher.simulate.workload import draw_model, zipf
from tests.drivers import images
from tests.e2e.chatting import chat, words
from tests.e2e.engine_log import Following, most_at_once
from tests.e2e.scraping import samples
from tests.e2e.serving import Launcher, container_route, until

MODELS = ("coder", "chat", "vision")
START = 2.0
MAX_WAIT = 8.0
#: Seconds: between a loop's answer and its next question, between an open client's questions
#: in the mean, for a word of an answer.
THINK = (0.1, 0.6)
GAP = 4.0
PACE = 0.05
WORDS = (2, 8)
#: Nobody waits that long where all is well.
DEADLINE = 900.0

Kind = Literal["loop", "open"]
KINDS: tuple[Kind, ...] = ("loop", "open")


@dataclass(frozen=True)
class Question:
    """One request. Seconds."""

    model: str
    tokens: int
    pause: float
    """After the client's last answer, in a loop; else after its last question."""


@dataclass(frozen=True)
class Client:
    """One client's requests, in order."""

    name: str
    kind: Kind
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Answered:
    """One request's end."""

    kind: Kind
    waited: float
    """Seconds to the first word."""
    problem: str = ""
    """Why the answer is a bad one, and whose."""


@dataclass(frozen=True)
class Result:
    """One policy's run. Seconds."""

    policy: str
    requests: int
    starts: int
    """By the engine's events."""
    starts_counted: int
    """By the launcher's metrics."""
    most_at_once: int
    seconds: float
    """From the first question to the last answer."""
    waits: Mapping[str, Waits]
    """Of all, and of each kind of client."""
    problems: list[str]


def workload(
    requests: int,
    clients: int,
    seed: int,
    models: Sequence[str] = MODELS,
    gap: float = GAP,
) -> list[Client]:
    """So many requests, spread evenly over so many clients, every other one a loop."""
    made = []
    shares = zipf(len(models))
    for place in range(clients):
        rng = random.Random(f"{seed}/{place}")
        kind = KINDS[place % 2]
        own = models[place // 2 % len(models)]
        count = requests // clients + (place < requests % clients)
        questions = tuple(
            Question(
                model=own if kind == "loop" else models[draw_model(shares, rng)],
                tokens=rng.randint(*WORDS),
                pause=rng.uniform(*THINK) if kind == "loop" else rng.expovariate(1 / gap),
            )
            for _ in range(count)
        )
        made.append(Client(f"{kind} client {place}", kind, questions))
    return made


def asking(clients: Sequence[Client]) -> float:
    """Seconds until the last open client asks for the last time: no run takes less."""
    return max(
        (sum(q.pause for q in one.questions) for one in clients if one.kind == "open"),
        default=0.0,
    )


async def ask(session: aiohttp.ClientSession, base: str, client: Client, place: int) -> Answered:
    """One request, and whether its answer is whole."""
    question = client.questions[place]
    asked = time.monotonic()
    try:
        answer = await chat(session, base, question.model, question.tokens, PACE)
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
        problem, waited = repr(error), time.monotonic() - asked
    else:
        waited, problem = answer.first, ""
        if answer.status != 200:
            problem = f"{answer.status} {answer.text}"
        elif not answer.done or answer.text != words(question.model, question.tokens):
            problem = f"{question.tokens} words asked, {answer.text!r} said, end {answer.done}"
    if problem:
        problem = f"{client.name}, request {place + 1}, {question.model}: {problem}"
    return Answered(client.kind, waited, problem)


async def traffic(base: str, clients: Sequence[Client]) -> list[Answered]:
    """All clients at once, to the end of all their requests."""
    patience = aiohttp.ClientTimeout(total=DEADLINE)
    pool = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=pool, timeout=patience) as session:

        async def loop(client: Client) -> list[Answered]:
            answers = []
            for place, question in enumerate(client.questions):
                await asyncio.sleep(question.pause)
                answers.append(await ask(session, base, client, place))
            return answers

        async def open_(client: Client) -> list[Answered]:
            under_way = []
            for place, question in enumerate(client.questions):
                await asyncio.sleep(question.pause)
                under_way.append(asyncio.create_task(ask(session, base, client, place)))
            return await asyncio.gather(*under_way)

        kinds = {"loop": loop, "open": open_}
        found = await asyncio.gather(*(kinds[client.kind](client) for client in clients))
    return [one for answers in found for one in answers]


def run(
    folder: Path, policy: str, clients: Sequence[Client], containers: Mapping[str, str]
) -> Result:
    """One policy: a launcher in front of the containers (model → name), all of them stopped
    before and afterwards."""
    routes = "".join(
        container_route(model, name, lines=f'models = ["{model}"]')
        for model, name in containers.items()
    )
    top = f'policy = "{policy}"\nmax_wait = "{MAX_WAIT:g}s"\nstop_on_exit = true'
    folder.mkdir()
    with Following(*containers.values()) as engine:
        with Launcher(folder, routes, top=top) as launcher:
            began = time.monotonic()
            answers = asyncio.run(traffic(launcher.base, clients))
            seconds = time.monotonic() - began
            until(lambda: settled(launcher), "no start or stop is under way")
            # Of every outcome: ready, failed, cancelled.
            counted = sum(count for _, count in samples(launcher, "launcher_starts_total"))
        log = engine.moments()
    result = Result(
        policy=policy,
        requests=len(answers),
        starts=sum(moment.running for moment in log),
        starts_counted=int(counted),
        most_at_once=most_at_once(log),
        seconds=seconds,
        waits={"all": waits(one.waited for one in answers)}
        | {kind: waits(one.waited for one in answers if one.kind == kind) for kind in KINDS},
        problems=[one.problem for one in answers if one.problem],
    )
    if result.starts != result.starts_counted:
        result.problems.append(
            f"the engine tells of {result.starts} starts, the launcher of {result.starts_counted}"
        )
    if result.most_at_once != 1:
        result.problems.append(f"{result.most_at_once} containers ran at once, 1 was to")
    return result


def settled(launcher: Launcher) -> bool:
    """Whether nothing starts or stops."""
    backends = launcher.json("/api/status")["backends"]
    return not any(one["state"] in ("starting", "draining", "stopping") for one in backends)


def table(results: Sequence[Result]) -> str:
    """For people: one line for all clients of a policy, and one for each kind."""
    rows: list[tuple[str, ...]] = [
        ("policy", "starts", "at once", "total, s", "of", "mean wait, s", "p50", "p95", "max")
    ]
    for result in results:
        first = (
            result.policy,
            str(result.starts),
            str(result.most_at_once),
            number(result.seconds),
        )
        for kind, found in result.waits.items():
            times = (found.mean, found.p50, found.p95, found.max)
            rows.append((*first, f"{found.count} {kind}", *(number(time) for time in times)))
            first = ("", "", "", "")
    return "\n".join(columns(rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, with the command line given; 1 where something isn't as it should be."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers there")
    options = parser.parse_args(argv)
    clients = workload(options.requests, options.clients, options.seed)
    prefix = f"launcher-bench-{os.getpid()}-"
    containers = {model: prefix + model for model in MODELS}
    results: list[Result] = []
    try:
        for model, name in containers.items():
            env = {"BACKEND_NAME": model, "BACKEND_START_DELAY": f"{START:g}"}
            images.create(name, env=env)
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            for policy in reversed(ALL):
                print(f"{policy} …", file=sys.stderr, flush=True)
                results.append(run(Path(folder, policy), policy, clients, containers))
    finally:
        images.sweep(prefix)
        images.remove()
    print(table(results))
    print(f"\nThe last open client asks until {asking(clients):.1f} s: no total can be less.")
    if options.json:
        given = {name: getattr(options, name) for name in ("requests", "clients", "seed")}
        found = [asdict(one) for one in results]
        plain = {**given, "asking": asking(clients), "policies": found}
        options.json.write_text(json.dumps(plain, indent=2) + "\n")
    problems = [f"{one.policy}: {problem}" for one in results for problem in one.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
