"""Made-up users and orders as Parquet, written once a size and seed: what the audience cases ask about."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

#: instant up to which there are orders
AT = datetime(2025, 6, 1, tzinfo=UTC)
#: days of orders
DAYS = 180
#: rows made at a time; a row group has at most a quarter of it
_CHUNK = 4_000_000


def users(size: int, seed: int) -> Path:
    """A folder with `users.parquet`: `size` users in order of their id, 20 columns."""
    folder = _folder(f"users-{size}-{seed}")
    path = folder / "users.parquet"
    if path.exists():
        return folder
    rng = np.random.default_rng(seed)
    last, part = 0, path.with_suffix(".part")
    writer: pq.ParquetWriter | None = None
    for begin in range(0, size, _CHUNK):
        frame = _some_users(min(_CHUNK, size - begin), last, rng)
        last = int(frame["user_id"][-1])
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=_CHUNK // 4)
    assert writer is not None
    writer.close()
    part.rename(path)
    return folder


def _some_users(n: int, last: int, rng: np.random.Generator) -> pl.DataFrame:
    def words(name: str, kinds: int, skew: float) -> pl.Series:
        share = 1.0 / np.arange(1, kinds + 1) ** skew
        drawn = np.searchsorted(np.cumsum(share / share.sum())[:-1], rng.random(n, dtype=np.float32))
        names = pl.Series([f"{name}_{i}" for i in range(kinds)], dtype=pl.Categorical)
        return names.gather(drawn.astype(np.uint32))

    def days(before: float) -> np.ndarray:
        ago = rng.exponential(before, n).astype(np.int32)
        return np.datetime64(AT.date()) - ago.astype("timedelta64[D]")

    age = pl.Series(np.clip(rng.normal(38, 14, n), 14, 95).astype(np.int16))
    orders = rng.geometric(0.22, n).astype(np.int32) - 1
    spend = np.round(orders * rng.lognormal(3.0, 0.7, n), 2)
    return pl.DataFrame(
        {
            "user_id": last + np.cumsum(rng.integers(1, 4, n)),
            "city": words("city", 300, 0.9),
            "province": words("province", 31, 0.6),
            "gender": words("gender", 3, 0.4),
            "device": words("device", 6, 0.8),
            "channel": words("channel", 12, 0.7),
            "tier": words("tier", 5, 1.2),
            "language": words("language", 10, 2.0),
            "age": age.set(pl.Series(rng.random(n, dtype=np.float32) < 0.03), None),
            "vip": rng.random(n, dtype=np.float32) < 0.06,
            "push_ok": rng.random(n, dtype=np.float32) < 0.55,
            "sms_ok": rng.random(n, dtype=np.float32) < 0.35,
            "registered": days(700.0),
            "last_seen": days(40.0),
            "orders": orders,
            "spend": spend,
            "basket": np.round(rng.lognormal(3.0, 0.5, n), 2),
            "coupon_rate": rng.random(n, dtype=np.float32).round(3),
            "sessions": rng.poisson(4, n).astype(np.int16),
            "points": rng.integers(0, 20_000, n, dtype=np.int32),
        }
    ).with_columns(pl.col(pl.Categorical).cast(pl.String))


def orders(people: int, size: int, seed: int) -> Path:
    """A folder with `users.parquet` (1 … `people`) and `orders.parquet`: `size` orders in the `DAYS` days
    up to `AT`, in order of time; some people order far more often than others."""
    folder = _folder(f"orders-{people}-{size}-{seed}")
    path = folder / "orders.parquet"
    if path.exists():
        return folder
    pl.DataFrame({"user_id": np.arange(1, people + 1)}).write_parquet(folder / "users.parquet")
    rng = np.random.default_rng(seed)
    part = path.with_suffix(".part")
    writer: pq.ParquetWriter | None = None
    span = DAYS * 86_400_000_000
    for begin in range(0, size, _CHUNK):
        n = min(_CHUNK, size - begin)
        edges = np.array([begin, begin + n]) / size * span
        rank = (people * rng.random(n) ** 2).astype(np.int64)
        frame = pl.DataFrame(
            {
                "order_id": begin + np.arange(n),
                "user_id": 1 + rank * 7_368_787 % people,
                "ordered_at": np.sort(rng.integers(int(edges[0]), int(edges[1]), n)),
                "amount": np.round(rng.lognormal(3.0, 0.7, n), 2),
                "category": (12 * rng.random(n) ** 2).astype(np.int8),
            }
        ).with_columns(
            (pl.lit(AT - timedelta(days=DAYS)) + pl.duration(microseconds="ordered_at")).alias("ordered_at")
        )
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=_CHUNK // 4)
    assert writer is not None
    writer.close()
    part.rename(path)
    return folder


def _folder(name: str) -> Path:
    folder = Path(tempfile.gettempdir()) / "growth-audiences" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
