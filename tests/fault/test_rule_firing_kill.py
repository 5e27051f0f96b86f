"""Rules that fire by themselves, killed at random instants and begun again: each fires once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: imports everything once and makes every try in a child, which the kernel ends by its processor time
SCRIPT = """
import json, random, sys
from contextlib import closing
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from sqlite3 import connect

from benchmarks.plan_killing import fresh, in_child
from benchmarks.plan_world import DAY, lay_out, open_at
from benchmarks.rules import AT

for name in ("engine.cycle", "engine.rule_firing", "mlflow.pyfunc", "conflict.apart"):
    import_module(name)
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
root, template = folder / "shop", folder / "template"
RULE = '''
kind: rule
name: {name}
goal: grow
group: everyone
touchpoint: {touchpoint}
benefit: {benefit}
cron: "0 10 * * *"
fires: by_itself
---
'''
WAYS = (("first", "note", "greeting"), ("second", "letter", "coupon"))
LIMITS = '''
kind: limits
name: daily
limits: [{name: money, sum: cost, at_most: 40}]
---
kind: coupon_pool
name: spring
size: 70
prefix: S-
'''

def prepare():
    from engine.cycle import plan
    from engine.usecases import apply
    space = lay_out(root, 80)
    plan(space, DAY, None, lambda _: None)
    rules = [RULE.format(name=name, touchpoint=point, benefit=what) for name, point, what in WAYS]
    (root / "more.yaml").write_text("".join(rules) + LIMITS)
    apply(space, root / "more.yaml", by="tests")
    space.rule_firings.start_clock(AT - timedelta(minutes=1))

def fire():
    from engine.rule_firing import RuleClock
    at = AT + timedelta(seconds=1)
    return [each["state"] for each in RuleClock(open_at(root, at)).tick(at)]

def outcome():
    rows = {}
    queries = {
        "firings": "SELECT rule, at, run, state FROM rule_firings ORDER BY rule",
        "touches": "SELECT t.run, t.task, s.user_id, s.touch_id, s.send_us FROM outbox_touches s "
        "JOIN outbox_tasks t ON t.number = s.task_number WHERE t.run LIKE '%Z' ORDER BY 1, 2, 3",
        "coupons": "SELECT task, run, count(*) FROM coupon_codes WHERE issued_us IS NOT NULL "
        "GROUP BY task, run ORDER BY task, run",
    }
    with closing(connect(f"file:{root}/var/growth.db?mode=ro", uri=True)) as database:
        for name, query in queries.items():
            rows[name] = [list(row) for row in database.execute(query)]
    space = open_at(root)
    held = space.ledger.held(users=[str(user) for user in range(80)], since=AT - timedelta(days=9),
                             until=AT + timedelta(days=9))
    rows["held"] = sorted(held.filter(held["plan"].str.starts_with("rules/"))["touch_id"].to_list())
    return rows

in_child(prepare)
root.rename(template)
fresh(template, root)
_, states, whole = in_child(fire)
_, right, _ = in_child(outcome)
chance, done, wrong = random.Random(7), 0, []
while done < kills:
    fresh(template, root)
    lived = False
    while not lived:
        lived, _, _ = in_child(fire, dies_after=chance.uniform(0.2, 1.0) * whole if done < kills else 0.0)
        done += not lived
    _, found, _ = in_child(outcome)
    wrong += [key for key in right if found[key] != right[key]]
print(json.dumps({"states": states, "right": right, "kills": done, "wrong": wrong}))
"""


def test_killed_and_begun_again_it_fires_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "6"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["states"] == ["done"]
    assert found["kills"] >= 6
    right = found["right"]
    assert [each[0] for each in right["firings"]] == ["first", "second"]
    assert len(right["touches"]) > 5
    assert sorted(each[3] for each in right["touches"]) == right["held"]
    assert {run for _, run, _ in right["coupons"]} == {"plan/2026-03-02"}
    assert sum(count for *_, count in right["coupons"]) > 40
    assert found["wrong"] == []
