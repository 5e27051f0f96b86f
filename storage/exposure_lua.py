"""Touches as Redis keeps them, and the scripts that change them, each in one step on one key.

A hash per user, household or other holder: the touch's mark → `at|stamp|expires|state|letter|channel|activity
|task|plan`, as in `storage.exposure_records`, with names quoted. A touch of a decision in real time stands
under a random field. Caps mean what `kernel.caps` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from kernel.caps import Held, Room

#: values that stand for one cap in a script's arguments
ROOM_WORDS = 9

_TOUCHES = """
local function touch(raw)
  local at, stamp, expires, state, letter, channel, activity, task, plan = string.match(raw,
    '^(%-?%d+)|(%d+)|(%d+)|(%a)|(%a)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
  return {at = tonumber(at), ats = at, stamp = tonumber(stamp), expires = tonumber(expires), state = state,
          letter = letter, channel = channel, activity = activity, task = task, plan = plan}
end
local function alive(one, now)
  return one.state == 'C' or (one.state == 'R' and (one.expires == 0 or one.expires * 1000000 > now))
end
local function packed(one, state, stamp)
  return table.concat({one.ats, stamp, string.format('%.0f', one.expires), state, one.letter, one.channel,
                       one.activity, one.task, one.plan}, '|')
end
local function all(key)
  local raw, held = redis.call('HGETALL', key), {}
  for each = 1, #raw, 2 do held[raw[each]] = touch(raw[each + 1]) end
  return held
end
-- whether one touch more at `at` fits under the cap whose words begin at ARGV[i]
local function has_room(held, but, now, at, i)
  local channel, letters = ARGV[i + 1], ARGV[i + 4]
  local window, most = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local activity, task, since, last = ARGV[i + 5], ARGV[i + 6], tonumber(ARGV[i + 7]), tonumber(ARGV[i + 8])
  local instants, count = {}, 0
  for mark, one in pairs(held) do
    if not but[mark] and alive(one, now) and string.find(letters, one.letter, 1, true)
      and (channel == '*' or channel == one.channel) and (activity == '*' or activity == one.activity)
      and (task == '*' or task == one.task) then
      if window > 0 then instants[#instants + 1] = one.at
      elseif one.at >= since and one.at < last then count = count + 1 end
    end
  end
  if window == 0 then return count < most end
  if most == 0 then return false end
  if #instants < most then return true end
  instants[#instants + 1] = at
  table.sort(instants)
  for each = 1, #instants - most do
    local first, last = instants[each], instants[each + most]
    if first <= at and at <= last and last - first < window then return false end
  end
  return true
end
local function keep(key, held, now, hold, at)
  for mark, one in pairs(held) do
    if math.max(one.at, one.stamp * 1000000) + hold <= now then redis.call('HDEL', key, mark) end
  end
  local left = math.ceil((hold + math.max(0, at - now)) / 1000)
  if redis.call('PTTL', key) < left then redis.call('PEXPIRE', key, string.format('%.0f', left)) end
end
"""
#: KEYS: a holder. ARGV: now, hold, stamp, replaced plan or nothing, number of wishes, then each: mark, at,
#: expires, letter, channel, activity, task, plan, number of caps, caps. Answers each: granted, stands, sent
#: (at another time) or full, and all touches where one is full
RESERVE = (
    _TOUCHES
    + """
local now, hold, stamp, held = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], all(KEYS[1])
local wishes, i, but, latest, anyfull = {}, 6, {}, now, false
for each = 1, tonumber(ARGV[5]) do
  local wish = {mark = ARGV[i], i = i, caps = tonumber(ARGV[i + 8])}
  local old, at = held[wish.mark], tonumber(ARGV[i + 1])
  latest = math.max(latest, at)
  if old and alive(old, now) then
    if old.state == 'R' and old.plan == ARGV[4] then but[wish.mark] = true
    elseif old.at == at and old.letter == ARGV[i + 3] and old.channel == ARGV[i + 4] then
      wish.became = 'stands'
    elseif old.state == 'C' then wish.became = 'sent'
    else but[wish.mark] = true end
  end
  wishes[each], i = wish, i + 9 + wish.caps * 9
end
local became, changed = {}, false
for each, wish in ipairs(wishes) do
  i = wish.i
  if not wish.became then
    local at, full = tonumber(ARGV[i + 1]), false
    for cap = 1, wish.caps do
      if not has_room(held, but, now, at, i + cap * 9) then full = true end
    end
    changed = true
    if full then
      wish.became, anyfull = 'full', true
      if but[wish.mark] then
        held[wish.mark].state = 'X'
        redis.call('HSET', KEYS[1], wish.mark, packed(held[wish.mark], 'X', stamp))
      end
    else
      wish.became, but[wish.mark] = 'granted', nil
      local raw = table.concat({ARGV[i + 1], stamp, ARGV[i + 2], 'R', ARGV[i + 3], ARGV[i + 4], ARGV[i + 5],
                                ARGV[i + 6], ARGV[i + 7]}, '|')
      held[wish.mark] = touch(raw)
      redis.call('HSET', KEYS[1], wish.mark, raw)
    end
  end
  became[each] = wish.became
end
if changed then keep(KEYS[1], held, now, hold, latest) end
if anyfull then return {became, redis.call('HGETALL', KEYS[1])} end
return {became}
"""
)
#: KEYS: a holder; on one server also where one mark lies, so that nothing is done (M) if others hold it too.
#: ARGV: now, stamp, C or X, marks. Answers each: the state it had
SETTLE = (
    _TOUCHES
    + """
if KEYS[2] and redis.call('GET', KEYS[2]) ~= string.match(KEYS[1], '{(%x+)}') then return {'M'} end
local now, became = tonumber(ARGV[1]), {}
for each = 4, #ARGV do
  local raw = redis.call('HGET', KEYS[1], ARGV[each])
  if not raw then became[each - 3] = '-'
  else
    local one = touch(raw)
    local state = one.state
    if state == 'R' and not alive(one, now) then state = 'E' end
    became[each - 3] = state
    if state == 'R' or (state == 'E' and ARGV[3] == 'X') then
      redis.call('HSET', KEYS[1], ARGV[each], packed(one, ARGV[3], ARGV[2]))
    end
  end
end
return became
"""
)
#: KEYS: a user. ARGV: stamp, plan, marks that stay. Releases the plan's other reservations; their marks
REPLACE = (
    _TOUCHES
    + """
local stay, gone = {}, {}
for each = 3, #ARGV do stay[ARGV[each]] = true end
for mark, one in pairs(all(KEYS[1])) do
  if one.plan == ARGV[2] and one.state == 'R' and not stay[mark] then
    redis.call('HSET', KEYS[1], mark, packed(one, 'X', ARGV[1]))
    gone[#gone + 1] = mark
  end
end
return gone
"""
)
#: KEYS: answer under the key, touches, session. ARGV: at, answer, keep, channel with a mark, field, hold,
#: idle, has a key, has a session, then caps
ADMIT = (
    _TOUCHES
    + """
if ARGV[8] == '1' then
  local standing = redis.call('GET', KEYS[1])
  if standing then return {1, standing} end
end
if ARGV[4] ~= '' then
  local at, many, held = tonumber(ARGV[1]), redis.call('HLEN', KEYS[2]), nil
  for cap = 10, #ARGV, 9 do
    if tonumber(ARGV[cap + 3]) <= many then -- one that allows more than all that is held has room
      held = held or all(KEYS[2])
      if not has_room(held, {}, at, at, cap) then return {2, ARGV[cap]} end
    end
  end
  local stamp = string.format('%.0f', math.floor(at / 1000000))
  redis.call('HSET', KEYS[2], ARGV[5],
    table.concat({ARGV[1], stamp, '0', 'C', 'm', string.sub(ARGV[4], 2), '', '', ''}, '|'))
  -- of so many touches one looks for what is over: each costs the same however many there are
  local look = many >= 32 and at % many == 0
  keep(KEYS[2], look and all(KEYS[2]) or {}, at, tonumber(ARGV[6]), at)
end
if ARGV[9] == '1' then
  redis.call('INCR', KEYS[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
end
if ARGV[8] == '1' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return {0, ''}
"""
)


class Stored:
    """A touch as it lies in Redis."""

    __slots__ = ("activity", "at", "channel", "expires", "letter", "plan", "stamp", "state", "task")

    def __init__(self, raw: bytes) -> None:
        at, stamp, expires, state, letter, channel, activity, task, plan = raw.split(b"|")
        self.at, self.stamp, self.expires = int(at), int(stamp), int(expires)
        self.state, self.letter = state[0], letter.decode()
        self.channel, self.activity = unquoted(channel), unquoted(activity)
        self.task, self.plan = unquoted(task), unquoted(plan)

    def alive(self, now: int) -> bool:
        return self.state == ord("C") or (
            self.state == ord("R") and (not self.expires or self.expires * 1_000_000 > now)
        )

    def held(self) -> Held:
        return Held(self.at, self.channel, self.letter, self.activity, self.task)


@lru_cache(maxsize=10_000)
def quoted(name: str) -> str:
    """ASCII without `|` and `*`."""
    return quote(name, safe="", errors="surrogatepass")


@lru_cache(maxsize=10_000)
def unquoted(raw: bytes) -> str:
    return unquote_to_bytes(raw).decode(errors="surrogatepass")


def room_words(rooms: Iterable[Room]) -> list[str | int | bytes]:
    """The caps as a script's arguments."""
    words: list[str | int | bytes] = []
    for name, channel, window, most, letters, activity, task, since, until, _ in rooms:
        told = ("*" if each is None else quoted(each) for each in (channel, activity, task))
        where, which, what = told
        named = name.encode(errors="surrogatepass")
        words += [named, where, window, most, letters, which, what, since, until]
    return words
