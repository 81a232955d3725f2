"""The doctor of a task that is not the chief: it tells the chief's what it sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

from tfdist.cluster import Cluster
from tfdist.cluster.secret import Secret
from tfdist.diagnose.doctor import run_folder
from tfdist.diagnose.doctor.host_facts import HostFacts
from tfdist.diagnose.doctor.line import REACH_SECONDS, Caller, Line
from tfdist.diagnose.doctor.visit import Reach, to_be_reached
from tfdist.rendezvous.handshake import Handshake, plain
from tfdist.rendezvous.messages import Gone, Message, Refusal, Stranger

__all__ = ["Attendance", "Colleague"]

_PAUSE = 0.3
_PATIENCE = 30.0  # seconds beside the wait, for what the chief's doctor does after it


@dataclass(frozen=True)
class Attendance:
    """What came of it.

    Attributes:
        exit_code: By the chief's word; None where there was none.
        exchange: How long the tasks exchange tensors now, in seconds; None for not at all.
        refusal: Why the chief's doctor did not let this one in; "" where it did.
        reach: Then, or where it was not met: what is at the chief's address.
    """

    exit_code: int | None
    exchange: float | None = None
    refusal: str = ""
    reach: Reach | None = None


@dataclass
class Colleague:
    """Goes to the chief's doctor.

    Attributes:
        cluster: The job, with this doctor's task.
        facts: What it has seen.
        handshake: Of its task.
        secret: The job's.
        clock: The time of day, in seconds.
    """

    cluster: Cluster
    facts: HostFacts
    handshake: Handshake
    secret: Secret
    clock: Callable[[], float] = time.time

    def attend(self, wait: float) -> Attendance:
        """Returns the chief's word.

        Args:
            wait: How long all doctors wait for each other, in seconds.
        """
        caller = Caller(self.cluster, self.handshake, self.secret)
        chief = str(self.cluster.chief)
        until = time.monotonic() + wait
        reach = Reach("silent")
        while time.monotonic() < until:
            begin = time.monotonic()
            try:
                line = caller.call(chief, min(until, begin + REACH_SECONDS), "doctor")
            except OSError:
                reach = caller.reach(chief)
            else:
                try:
                    return self._talk(caller, line, until + _PATIENCE)
                except Refusal as refusal:
                    return Attendance(None, refusal=str(refusal))
                except Stranger as stranger:
                    reach = Reach("other", str(stranger))
                except Gone:
                    reach = Reach("other", "something that closed the connection")
                except TimeoutError:
                    reach = Reach("other", "something that takes connections and says nothing")
                finally:
                    line.close()
            time.sleep(_PAUSE)
        return Attendance(None, reach=reach)

    def _talk(self, caller: Caller, line: Line, until: float) -> Attendance:
        line.say(
            {
                "say": "doctor",
                "handshake": self.handshake.to_message(),
                "facts": self.facts.to_message(),
            },
            until,
        )
        while True:
            message = line.hear(until)
            said = message["say"]
            if said == "clock":
                line.say({"say": "clock", "here": self.clock()}, until)
            elif said == "reach":
                line.say(self._reached(caller, str(message.get("token"))), until)
            elif said == "refused":
                return Attendance(None, refusal=plain(str(message.get("text")), 1000))
            elif said == "diagnosis":
                code = 0 if message.get("code") == 0 else 1
                seconds = message.get("exchange")
                return Attendance(code, seconds if isinstance(seconds, int | float) else None)

    def _reached(self, caller: Caller, token: str) -> Message:
        reached = caller.reach_all(to_be_reached(self.cluster, self.facts.task))
        return {
            "say": "reached",
            "reached": {to: astuple(reach) for to, reach in reached.items()},
            "sees": run_folder.sees(self.facts.folder.path, token),
        }
