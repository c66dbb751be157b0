"""The run that a server shows: what it asks now, and every change that people make.

All methods may be called from several threads; one lock orders them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..annotators.summary import Summary
from ..errors import DataError, RegionalALError, WorkDirError
from ..exchange.run import WaitingRun, waiting_run
from ..store import results as results_file
from ..store.answer_log import AnswerLog, Event, check_person
from ..store.ledger import COMMAND, Ledger
from ..store.lock import FolderLock
from ..store.query import id_rgb, query_hash, read_query
from ..store.work_dir import WorkDir
from ..types import JSON
from . import shown
from .images import item_json
from .leases import Leases
from .requests import event_of, integer, png, tab_of, text
from .rounds import Round
from .training import Training
from .watch import Watch

LOCK = ".annotate.lock"


class ConflictError(RegionalALError):
    """A request that does not fit what the run asks now."""


class Session:
    """What the server knows.

    Args:
        work_dir: Of a run that waits for people's answers.
        overlap: Share of the images that are offered to a second person too, 0..1.
        leases: Who works on which image; default: leases of 5 minutes.
        train: Start the next round when a round is complete.

    Raises:
        RegionalALError: The folder contains no such run, or another server serves it.
    """

    def __init__(
        self,
        work_dir: Path,
        overlap: float = 0.0,
        leases: Leases | None = None,
        train: bool = False,
    ) -> None:
        self.files = WorkDir(Path(work_dir))
        self.overlap, self.train = overlap, train
        self.leases = leases or Leases()
        self.lock = threading.RLock()
        self.training: Training | None = None
        self.version = 0  # grows with every change that a page should hear of
        self.failure = ""
        self.run: WaitingRun = waiting_run(self.files.root)
        if train:
            self._command()
        # Two servers would give two people the same image, and not see each other's answers.
        self._alone = FolderLock(
            self.files.root, "another `regional-al annotate`", "open the page of that one", LOCK
        )
        self._alone.acquire()
        self.watch = Watch(self.files)
        self.log = AnswerLog.open(self.files.answer_log)
        self.rounds: dict[int, Round] = {}
        self._sizes: dict[int, int] = {}
        self.current = self._open_round(self.run.round)
        self.title = results_file.load(self.files.root).title

    def close(self) -> None:
        """Stop a training that the server has started, and close the log."""
        if self.training is not None:
            self.training.stop()
        with self.lock:
            self.log.close()
            self._alone.release()

    @property
    def classes(self) -> int:
        return len(self.run.space.class_names)

    def _open_round(self, number: int) -> Round:
        query = self.run.query if number == self.run.round else read_query(self.files.query(number))
        self.rounds[number] = Round(self.files, query, self.log, self.classes, self.overlap)
        self._sizes[number] = len(self.rounds[number].keys)
        return self.rounds[number]

    def _size(self, number: int) -> int:
        """Images of the query of a round, which need not be open."""
        if number not in self._sizes:
            self._sizes[number] = len(read_query(self.files.query(number)).keys)
        return self._sizes[number]

    def round(self, number: int) -> Round:
        """A round that has asked something. Raises DataError for another number."""
        with self.lock:
            if number in self.rounds:
                return self.rounds[number]
            if number > self.run.round or number not in self.files.rounds_with_query():
                raise DataError(f"there is no query of round {number}")
            return self._open_round(number)

    def _command(self) -> Mapping[str, Any]:
        with Ledger.open(self.files.root, readonly=True) as ledger:
            command = ledger.noted(COMMAND)
        if command is None:
            raise WorkDirError(
                f"{self.files.root} was not started by `regional-al train` or tools/dist_train.sh: "
                "leave --train out, and resume it yourself when a round is complete"
            )
        return command

    def refresh(self) -> None:
        """Notice that the run has gone on, or that a training has ended. Cheap when it has not."""
        with self.lock:
            if self.training is not None and not self.training.running:
                failed, line = self.training.failed, self.training.last_line()
                self.training = None
                self.failure = (line or "the training has failed") if failed else ""
                self.version += 1
            if not self.watch.look():
                return
            self.version += 1
            with suppress(WorkDirError):  # it does not wait: the last round stays on the page
                now = waiting_run(self.files.root)
                if now.round == self.run.round and query_hash(now.query) == self.current.hash:
                    return
                before, self.run = self.run, now
                try:
                    self.current = self._open_round(now.round)
                except RegionalALError:
                    self.run = before
                    raise
                self.failure = ""

    def waits(self) -> bool:
        """Whether the run waits for answers of the current round."""
        place = self.watch.position
        return self.training is None and (place.round, place.stage) == (self.run.round, "answers")

    def state(self) -> tuple[str, str]:
        """('waiting', 'training', 'finished', 'failed' or 'idle', one line about it)."""
        self.refresh()
        with self.lock:
            place = self.watch.position
            if self.training is not None:
                return "training", self.training.last_line() or "starting the next round"
            if self.failure:
                return "failed", self.failure
            if place.stopped:
                return "finished", place.stopped
            if not self.waits():
                return "idle", f"round {place.round} has reached {place.stage}: resume the run"
            if self.files.closed(place.round).exists():
                return "waiting", "the round is closed: resume the run"
            if self._complete():
                return "waiting", "all is answered: resume the run"
            return "waiting", ""

    def _complete(self) -> bool:
        totals = self.current.totals()
        return bool(totals["images_done"] == totals["images"])

    def describe(self) -> JSON:
        """All that a page needs to know about the run."""
        state, message = self.state()
        with self.lock:
            now = self.current
            sizes = {
                number: self._size(number)
                for number in self.files.rounds_with_query()
                if number <= now.number
            }
            return {
                "title": self.title,
                "work_dir": str(self.files.root),
                "state": state,
                "message": message,
                **shown.round_json(now, self.run.space, sizes),
                "train": self.train,
                "overlap": self.overlap,
                "lease": self.leases.seconds,
                "version": self.version,
            }

    def next(
        self, person: str, after: str | None = None, tab: str = "", reserve: bool = False
    ) -> JSON:
        """The next image for a person, with a lease on it.

        Args:
            person: Who.
            after: Key of the image before.
            tab: The page that asks, so that two of one person show different images.
            reserve: The image is only loaded in advance: somebody who has nothing else to do may
                take it over.
        """
        check_person(person)
        self.refresh()
        with self.lock:
            number = self.current.number
            wanted = list(self.current.order(person, after))
            first = [
                one for one in wanted if not self.leases.elsewhere((number, one[0]), person, tab)
            ]
            for over, choice in ((False, first), (True, first), (True, wanted)):
                if reserve and over:
                    break
                for key, why in choice:
                    if self.leases.take((number, key), person, tab, reserve, over):
                        return {"key": key, "round": number, "query": self.current.hash, "why": why}
            return {"done": True, "others": len(wanted)}

    def image(self, number: int, key: str, person: str) -> JSON:
        """What is asked about an image, item by item."""
        round_ = self.round(number)
        with self.lock:
            blind = person if number == self.run.round else None
            return shown.image_json(round_, key, self.leases, blind)

    def images(self, number: int) -> JSON:
        """All images of a round, and how far people are with them."""
        round_ = self.round(number)
        with self.lock:
            return shown.images_json(round_, self.leases)

    def map(self, name: str, number: int, key: str) -> bytes:
        """A map of an image as PNG: 'asked', 'answer' or 'predicted'."""
        round_ = self.round(number)
        with self.lock:  # encoded without it, so that answers do not wait
            image = round_.image(key)
            pixels = round_.standing(key).answer if name == "answer" else image.predicted
        if name == "asked":
            return png(id_rgb(image.asked))
        if pixels is None:
            raise DataError(f"there is no prediction of {key!r} in round {number}")
        return png(pixels)

    def answer(self, data: Mapping[str, Any], paint: bytes | None = None) -> JSON:
        """Log an answer.

        Args:
            data: The request, see `docs/annotate.md`; checked here.
            paint: PNG of a painted answer.

        Raises:
            DataError: A value that cannot be.
            ConflictError: It is about another query, or somebody else has the image.
        """
        number, key, person = integer(data, "round"), text(data, "key"), text(data, "person")
        check_person(person)
        self.refresh()
        round_ = self.round(number)
        with self.lock:
            image = round_.image(key)
            event = self._known(data, number, key, person)
            if event is None:
                self._check_place(round_, data, key, person)
                event = event_of(
                    data,
                    paint,
                    image,
                    round_.number,
                    round_.hash,
                    round_.query.info.answer,
                    self.run.space.offered,
                    over=round_.number < self.run.round,
                )
                event = self.log.append(event)
                round_.count(event)
                self.version += 1
            after = round_.update(key)
            if round_.wants(key, person) is None:
                self.leases.release((number, key), person)
            else:
                self.leases.take((number, key), person, tab_of(data))
            rows = range(image.items.size) if paint is not None else image.rows(event.items)
            blind = person if round_.twice(key) and number == self.run.round else None
            answer: JSON = {
                "items": [item_json(image, after, int(row), blind) for row in rows],
                "totals": round_.totals(),
                "complete": round_.progress[key].complete,
                "skipped": after.skipped,
            }
        self.maybe_train()
        return answer

    def _known(self, data: Mapping[str, Any], number: int, key: str, person: str) -> Event | None:
        """The event that is in the log already: the page has not heard that it arrived."""
        known = self.log.find(text(data, "token"))
        if known is not None and (known.round, known.key, known.person) != (number, key, person):
            raise ConflictError("the token of this answer is that of another one")
        return known

    def _check_place(self, round_: Round, data: Mapping[str, Any], key: str, person: str) -> None:
        review = bool(data.get("review"))
        if data.get("query") != round_.hash:
            raise ConflictError(
                f"the answer is about another query than that of round {round_.number}: reload"
            )
        if round_.number < self.run.round and not review:
            raise ConflictError(f"round {round_.number} is over: its answers can only be reviewed")
        if round_.number == self.run.round and not self.waits():
            raise ConflictError("the run does not wait for answers now: wait until it asks again")
        holder = self.leases.holder((round_.number, key))
        if holder not in (None, person) and not review:
            raise ConflictError(f"{holder} is working on {key!r}: take another image")

    def undo(self, data: Mapping[str, Any]) -> JSON:
        """Undo the last thing that a person has done in the current round."""
        person = check_person(text(data, "person"))
        self.refresh()
        with self.lock:
            round_ = self.current
            if data.get("query") != round_.hash:
                raise ConflictError("the page shows another query: reload")
            if not self.waits():
                raise ConflictError("the run does not wait for answers now: nothing can be undone")
            collected = self.watch.position.collected
            event = self.log.undo(person, round_.number, round_.hash, after=collected)
            if event is None:
                return {"nothing": True}
            round_.forget(event.key)
            image, after = round_.image(event.key), round_.update(event.key)
            if round_.wants(event.key, person) is not None:
                self.leases.take((round_.number, event.key), person, tab_of(data))
            self.version += 1
            items = event.items or tuple(image.items.tolist())
            return {
                "key": event.key,
                "round": event.round,
                "kind": event.kind,
                "items": [item_json(image, after, int(row)) for row in image.rows(items)],
                "skipped": after.skipped,
                "totals": round_.totals(),
            }

    def lease(self, data: Mapping[str, Any]) -> JSON:
        """Take an image, hold it for longer, or give it back."""
        person = check_person(text(data, "person"))
        round_ = self.round(integer(data, "round"))
        place = (round_.number, round_.check_key(text(data, "key")))
        with self.lock:
            if data.get("release"):
                self.leases.release(place, person, tab_of(data))
                return {"lease": None}
            if self.leases.elsewhere(place, person, tab_of(data)):
                return {"elsewhere": True}
            if not self.leases.take(place, person, tab_of(data)):
                raise ConflictError(f"{self.leases.holder(place)} is working on {place[1]!r}")
            return {
                "lease": {"person": person, "expires_in": self.leases.expires_in(place)},
                "wanted": round_.wants(place[1], person) is not None,
                "events": round_.last_event(place[1]),
            }

    def history(self, number: int, person: str | None, limit: int) -> JSON:
        """The last events of a round, newest first."""
        with self.lock:
            events = self.log.recent(max(1, min(limit, 1000)), round=number, person=person or None)
        return {"events": [shown.event_json(event) for event in events]}

    def log_events(self, number: int | None = None) -> list[Event]:
        """Events of a round; None: of all."""
        with self.lock:
            return self.log.events(round=number)

    def summary(self, number: int) -> JSON:
        """See `annotators.summary`. Between images other requests are answered."""
        round_, found = self.round(number), Summary()
        for key in round_.keys:
            with self.lock:
                if round_.progress[key].people:
                    found.add(round_.image(key), round_.standing(key))
        return {"round": round_.number, **found.json(self.run.space.class_names)}

    def close_round(self, unspent: str) -> JSON:
        """Close the round that waits; with `train` the next one begins."""
        from ..loop.closing import close_round

        with self.lock:
            message = close_round(self.files.root, unspent)
            self.version += 1
        self.maybe_train()
        return {"message": message}

    def maybe_train(self) -> None:
        """Start the next round if that was asked for and nothing is left to answer."""
        with self.lock:
            if not self.train or self.state()[0] != "waiting":
                return
            closed = self.files.closed(self.current.number).exists()
            if closed or (self._complete() and not self.current.opinions_due()):
                self.training = Training(self._command(), self.files.root)
                self.version += 1
