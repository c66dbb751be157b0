"""Answers from the log of a run, which the annotation page writes: to raw ids, and corrections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..store.answer_log import AnswerLog, Event
from ..store.labels import LabelStore
from ..store.query import Query, query_hash, read_query
from ..store.work_dir import WorkDir
from ..types import I32, U8, UNLABELED, Bool, ClassSets, ImageAnswer, LabelSpace, Revision, Source
from .replay import OPEN, SEVERAL, VOID, Standing, replay


class News(NamedTuple):
    """What has been logged since the last look.

    Args:
        keys: Images of the current query with new events.
        revisions: Corrections of answers of earlier rounds, oldest first.
        last: Number of the last event.
    """

    keys: list[str]
    revisions: list[Revision]
    last: int


def raw_ids(space: LabelSpace) -> U8:
    """uint8 [256]: the lowest raw id of each class index; 255 for `OPEN`, `VOID`, `SEVERAL` and
    indices of no class.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> raw_ids(space)[[0, 1, 2, VOID]].tolist()
        [0, 1, 255, 255]
    """
    table = np.full(256, UNLABELED, np.uint8)
    table[: space.num_classes] = space.lowest_raw
    return table


def image_answer(
    key: str, asked: I32, standing: Standing, space: LabelSpace, where: Bool | None = None
) -> ImageAnswer:
    """What stands about an image, in raw ids.

    Args:
        key: Of the image.
        asked: int32 [H, W], 0 = not asked.
        standing: Of its events.
        space: Meaning of the ids.
        where: bool [H, W], pixels to leave the others out; None: all that are answered.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> asked = np.ones((1, 2), np.int32)
        >>> bool(image_answer("a", asked, replay(asked, []), space).answered.any())
        False
    """
    table = raw_ids(space)
    answered = (asked > 0) & (standing.answer != OPEN)
    if where is not None:
        answered &= where
    sets = None
    several = answered & (standing.answer == SEVERAL)
    if several.any():
        regions = np.zeros(asked.shape, np.int32)
        classes = []
        for item in np.unique(asked[several]).tolist():
            classes.append(tuple(sorted(int(table[c]) for c in standing.sets[item])))
            regions[several & (asked == item)] = len(classes)
        sets = ClassSets(regions, tuple(classes))
    return ImageAnswer(
        key,
        np.where(answered, table[standing.answer], np.uint8(UNLABELED)),
        answered,
        clicks=standing.clicks,
        seconds=standing.seconds,
        sources=tuple(Source("person", name) for name in standing.people),
        source=standing.source,
        sets=sets,
    )


def events_by_key(log: Path, round: int, query: str) -> dict[str, list[Event]]:
    """The events of a query, by image; see `logged_answers` for errors."""
    found: dict[str, list[Event]] = defaultdict(list)
    with AnswerLog.open(log, readonly=True) as opened:
        for event in opened.events(round=round):
            if event.query != query:
                raise DataError(
                    f"{log} has answers of round {round} to another query: they were given in "
                    "another run; restore the log of this one, or move it away"
                )
            found[event.key].append(event)
    return dict(found)


def news(query: Query, space: LabelSpace, store: LabelStore, after: int) -> News:
    """Look into the log for what has been added since event `after`.

    A correction changes pixels that an earlier round has had answered, to another class or to
    void. An answer cannot be taken back then: models have been trained on it.

    Args:
        query: Of the current round.
        space: Meaning of the ids.
        store: Labels as they are.
        after: Number of the last event that has been looked at; 0: none.
    """
    files = WorkDir(query.folder.parents[2])
    if not files.answer_log.is_file():
        return News([], [], after)
    with AnswerLog.open(files.answer_log, readonly=True) as log:
        last, new = log.last(), log.events(after=after)
        keys = sorted({event.key for event in new if event.round == query.info.round})
        revisions = []
        for round_, key in sorted({(e.round, e.key) for e in new if e.round < query.info.round}):
            events = log.events(round=round_, key=key)
            mine = [e for e in new if (e.round, e.key) == (round_, key)]
            asked = _asked(files, round_, key)
            one = _revision(asked, events, mine, space, store)
            if one is not None:
                revisions.append(one)
    return News(keys, sorted(revisions, key=lambda one: one.event), last)


def _asked(files: WorkDir, round: int, key: str) -> I32:
    query = read_query(files.query(round))
    if key not in query.keys.values():
        raise DataError(f"{files.answer_log} has answers about {key!r}, which round {round} did not"
                        " ask about: restore the log of this run")  # fmt: skip
    return query.asked(key)


def _revision(
    asked: I32, events: Sequence[Event], new: Sequence[Event], space: LabelSpace, store: LabelStore
) -> Revision | None:
    """The correction of one image that follows from its events, which may confirm what is there;
    None: there is nothing to correct."""
    round, key = new[0].round, new[0].key
    label, sidecar = store.read(key), store.annotated(key)
    if label is None or sidecar is None:
        return None
    standing = replay(asked, events)
    now = np.full(256, UNLABELED, np.int16)  # class index of each raw id, VOID for none
    now[:] = np.where(space.trainable, space.raw_to_train, VOID)
    table = np.arange(256)
    table[SEVERAL] = VOID
    # What a killed process has corrected already is corrected again, so that it is recorded.
    where = (sidecar == round + 1) & _touched(asked, new) & (standing.answer != OPEN)
    if not where.any():
        return None
    answer = image_answer(key, asked, standing, space, where)
    same = (table[standing.answer] == now[label]) & (standing.answer != SEVERAL)
    return Revision(
        round,
        ImageAnswer(
            key,
            np.where(same, label, answer.labels),  # of several raw ids of a class the one there
            answer.answered,
            clicks=sum(event.clicks for event in new),
            seconds=sum(event.ms for event in new) / 1000,
            sources=answer.sources,
            source=answer.source,
            sets=answer.sets,
            replaces=True,
        ),
        people=tuple(dict.fromkeys(event.person for event in new)),
        time=new[-1].time,
        event=new[-1].id,
    )


def _touched(asked: I32, events: Sequence[Event]) -> Bool:
    """bool [H, W]: pixels that events are about."""
    items = np.array(sorted({item for event in events for item in event.items}), np.int32)
    whole = any(event.paint is not None and not event.items for event in events)
    return (asked > 0) if whole else np.isin(asked, items)


def logged_answers(
    query: Query, keys: Sequence[str], space: LabelSpace
) -> Iterator[tuple[str, ImageAnswer]]:
    """What the log says about some images of a query: those with an answer.

    Raises:
        WorkDirError: The log is damaged.
        DataError: It has answers to another query of this round.
    """
    log = WorkDir(query.folder.parents[2]).answer_log
    if not log.is_file():
        return
    by_key = events_by_key(log, query.info.round, query_hash(query))
    for key in keys:
        if by_key.get(key):
            asked = query.asked(key)
            answer = image_answer(key, asked, replay(asked, by_key[key]), space)
            if answer.answered.any():
                yield key, answer
