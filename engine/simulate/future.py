"""Days to come of a workspace's own users, drawn from its past: who registers, and who buys what when.

Every simulated row is a real one of the workspace's tables with its user, time and id replaced, so whatever
columns there are keep their sense.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.simulate.copying import PARQUET
from engine.wiring import Workspace
from kernel.clock import parse_zone, start_of_day
from kernel.errors import BadInput
from kernel.randomness import derive_seed
from storage.lake import write_parquet

#: days that say how often users register and buy
_LOOKS_BACK = 56
#: days after registration that have a frequency of their own
_YOUNG = 28
_DAY = timedelta(days=1)


@dataclass(kw_only=True, eq=False)
class Table:
    """One table of a source, and how its rows are of a user at a time."""

    path: Path
    frame: pl.DataFrame
    user: str
    time: str
    id: str | None
    zone: str

    @classmethod
    def read(cls, space: Workspace, source: str, table: str, user: str, at: str, id_: str | None) -> Table:
        catalog = space.catalog
        route = catalog.sources[source]
        here = (space.root / space.settings.catalog).parent
        folder = here / route.url.removeprefix(PARQUET)
        path = folder / f"{table}.parquet"
        if not path.is_file():
            raise BadInput("is no single Parquet file", where=catalog.file, field="table", value=str(path))
        frame = pl.read_parquet(path)
        if not isinstance(frame.schema[at], pl.Datetime):
            raise BadInput("holds no times", where=str(path), field=at, value=str(frame.schema[at]))
        return cls(path=path, frame=frame, user=user, time=at, id=id_, zone=route.timezone)

    @property
    def instants(self) -> pl.Expr:
        """The time column in UTC."""
        kind = self.frame.schema[self.time]
        at = pl.col(self.time)
        if isinstance(kind, pl.Datetime) and kind.time_zone is None:
            at = at.dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null")
        return at.dt.convert_time_zone("UTC").dt.cast_time_unit("us")

    def moment(self, at: datetime) -> datetime:
        """An instant as the column has its own: naive in the source's zone, or in UTC."""
        kind = self.frame.schema[self.time]
        naive = isinstance(kind, pl.Datetime) and kind.time_zone is None
        return at.astimezone(parse_zone(self.zone) if naive else UTC).replace(tzinfo=None)

    def times(self, at: list[datetime]) -> pl.Series:
        """What `moment` gave, as the column."""
        kind = self.frame.schema[self.time]
        found = pl.Series(self.time, at, dtype=pl.Datetime("us"))
        if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
            found = found.dt.replace_time_zone("UTC").dt.convert_time_zone(kind.time_zone)
        return found.cast(kind)

    def add(self, rows: list[pl.DataFrame]) -> None:
        if rows:
            self.frame = pl.concat([self.frame, *rows])

    def write(self) -> None:
        write_parquet(self.path, self.frame)


@dataclass(kw_only=True, eq=False)
class Future:
    """The past of a workspace, from which its days to come are drawn."""

    space: Workspace
    #: None: users are whoever appears among the events, and nobody registers
    users: Table | None
    orders: Table
    seed: int
    #: registrations a day
    arriving: float
    #: P(buys on a day) by whole days since registration, without and with an earlier purchase
    young: np.ndarray[Any, np.dtype[np.float64]]
    #: user → purchases a day, of those who are older
    habits: dict[Any, float]
    _made: int = field(default=0)

    @classmethod
    def of(cls, space: Workspace, event: str, first: date, seed: int) -> Future:
        """`event`: what is bought; `first`: the first day to come. Raises BadInput for tables that are not
        plain files of rows with a time."""
        catalog = space.catalog
        route, entity = catalog.events[event], catalog.entity
        orders = Table.read(space, route.source, route.table, route.user, route.time, route.id)
        users = None
        if entity.since is not None and (entity.source, entity.table) != (route.source, route.table):
            users = Table.read(space, entity.source, entity.table, entity.key, entity.since, None)
        end = start_of_day(first, space.settings.zone)
        begin = end - _LOOKS_BACK * _DAY
        id_ = pl.col(route.id) if route.id else pl.int_range(pl.len())
        bought = orders.frame.select(
            pl.col(route.user).alias("user"), orders.instants.alias("at"), id_.alias("id")
        )
        bought = bought.unique(["user", "id"], keep="first", maintain_order=True)
        recent = bought.filter(pl.col("at") > begin)
        arriving, young = 0.0, np.zeros((_YOUNG, 2))
        if users is not None:
            known = users.frame.select(pl.col(users.user).alias("user"), users.instants.alias("since"))
            arriving = known.filter(pl.col("since") > begin).height / _LOOKS_BACK
            young = _young(known, bought, end)
        habits = dict(
            recent.group_by("user").agg((pl.len() / _LOOKS_BACK).alias("rate")).sort("user").iter_rows()
        )
        return cls(
            space=space, users=users, orders=orders, seed=seed, arriving=arriving, young=young, habits=habits
        )

    def live(self, day: date, more: list[Any]) -> dict[str, int]:
        """Writes one day's registrations and purchases into the tables; `more`: users who make a purchase
        besides. `{registered, bought, more}`."""
        rng = np.random.default_rng(derive_seed(self.seed, "future", day))
        begin = start_of_day(day, self.space.settings.zone)
        arrived = self._register(begin, rng)
        usual = [user for user, chance in self._chances(begin) if rng.random() < chance]
        if buyers := [*usual, *more]:
            self.orders.add([self._purchases(buyers, begin, rng)])
        self.orders.write()
        return {"registered": arrived, "bought": len(usual), "more": len(more)}

    def _register(self, begin: datetime, rng: np.random.Generator) -> int:
        table = self.users
        if table is None:
            return 0
        count = int(rng.poisson(self.arriving))
        if count:
            frame = table.frame[rng.integers(table.frame.height, size=count).tolist()]
            at = [table.moment(begin + float(each) * _DAY) for each in rng.random(count)]
            came = table.times(at)
            ids = self._new_ids(table.frame, table.user, list(range(count)))
            table.add([frame.with_columns([ids, came])])
        table.write()
        return count

    def _chances(self, begin: datetime) -> list[tuple[Any, float]]:
        """(user, P(buys today)) of everyone, in a fixed order."""
        bought = set(self.orders.frame[self.orders.user].to_list())
        chances: dict[Any, float] = {user: 1 - float(np.exp(-rate)) for user, rate in self.habits.items()}
        if self.users is not None:
            table = self.users
            since = pl.lit(begin) - table.instants
            young = table.frame.select(pl.col(table.user).alias("user"), since.dt.total_days().alias("age"))
            for user, age in young.filter(pl.col("age") < _YOUNG).iter_rows():
                chances[user] = float(self.young[max(age, 0), int(user in bought)])
        return sorted(chances.items(), key=lambda each: str(each[0]))

    def _purchases(self, buyers: list[Any], begin: datetime, rng: np.random.Generator) -> pl.DataFrame:
        """Of each buyer some earlier purchase, with all its lines: the user's own where there is one."""
        table, (own, lines) = self.orders, self._index()
        rows, users, hours, numbers = list[int](), list[Any](), list[int](), list[int]()
        for number, user in enumerate(buyers):
            pool = own.get(user)
            line = int(rng.choice(pool)) if pool else int(rng.integers(table.frame.height))
            second = int((8 + 13 * rng.random()) * 3600)
            for each in lines(line):
                rows.append(each)
                users.append(user)
                hours.append(second)
                numbers.append(number)
        frame = table.frame[rows]
        at = [table.moment(begin + timedelta(seconds=each)) for each in hours]
        changed = [
            pl.Series(table.user, users, dtype=frame.schema[table.user]),
            table.times(at),
        ]
        if table.id is not None:
            changed.append(self._new_ids(table.frame, table.id, numbers))
        return frame.with_columns(changed)

    def _index(self) -> tuple[dict[Any, list[int]], Callable[[int], list[int]]]:
        """Rows of each user, and of the purchase that a row is a line of."""
        table, place = self.orders, pl.int_range(pl.len()).alias("_row")
        users = table.frame.select(table.user, place).group_by(table.user, maintain_order=True).agg("_row")
        own = dict(users.iter_rows())
        if table.id is None:
            return own, lambda row: [row]
        ids = table.frame[table.id].to_list()
        whole = dict(table.frame.select(table.id, place).group_by(table.id).agg("_row").iter_rows())
        return own, lambda row: whole[ids[row]]

    def _new_ids(self, frame: pl.DataFrame, column: str, numbers: list[int]) -> pl.Series:
        """Ids that nobody has: of equal numbers the same."""
        kind, made = frame.schema[column], self._made + 1
        self._made += max(numbers) + 1
        if kind.is_integer():
            most = int(frame[column].to_numpy().max()) if frame.height else 0
            return pl.Series(column, [most + 1 + each for each in numbers], dtype=kind)
        if kind == pl.String:
            return pl.Series(column, [f"simulated-{made + each}" for each in numbers])
        problem = "is neither whole numbers nor text, so no new ones can be made"
        raise BadInput(problem, field=column, value=str(kind))


def _young(known: pl.DataFrame, bought: pl.DataFrame, end: datetime) -> np.ndarray[Any, np.dtype[np.float64]]:
    """days since registration × (no purchase before, some): share that bought on such a day, with one
    pseudo-user at the average."""
    days = known.join(pl.DataFrame({"age": range(_YOUNG)}), how="cross").with_columns(
        begin=pl.col("since") + pl.duration(days="age")
    )
    days = days.filter(pl.col("begin") + _DAY <= pl.lit(end))
    first = bought.group_by("user").agg(pl.col("at").min().alias("first"))
    on = bought.join(known, on="user").select(
        "user", ((pl.col("at") - pl.col("since")).dt.total_days()).alias("age"), pl.lit(1.0).alias("did")
    )
    whole = (
        days.join(first, on="user", how="left")
        .join(on.unique(["user", "age"]), on=["user", "age"], how="left")
        .with_columns(
            did=pl.col("did").fill_null(0.0),
            before=(pl.col("first") < pl.col("begin")).fill_null(value=False).cast(pl.Int64),
        )
    )
    found = np.zeros((_YOUNG, 2))
    overall = float(whole["did"].sum()) / max(whole.height, 1)
    told = whole.group_by("age", "before").agg(pl.col("did").sum(), pl.len())
    counts = {(age, before): (did, many) for age, before, did, many in told.iter_rows()}
    for age in range(_YOUNG):
        for before in (0, 1):
            did, many = counts.get((age, before), (0.0, 0))
            found[age, before] = (did + overall) / (many + 1)
    return found
