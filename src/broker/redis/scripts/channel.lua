-- What the scripts of this folder know of a channel. After `step.lua`.

-- Never `..` a Lua number: large ones become 1e+14.
local function text(number) return string.format('%d', number) end

-- Ten digits that nobody can guess who does not know the partition's seed.
local function life_of(what)
  return string.sub(redis.sha1hex((redis.call('HGET', KEYS[1], 'seed') or '') .. what), 1, 10)
end

-- The life of a channel that has no meta: the same for all who ask within an hour of Redis' clock.
local function life_of_unknown(name)
  return life_of(name .. text(math.floor(clock[1] / 3600)))
end

-- A life no log had before.
local function fresh_life(name)
  return life_of(name .. clock[1] .. '.' .. clock[2])
end

-- The data of a blanked entry as `encoding.rs` reads it: version 1, only the flag `deleted`.
local BLANK = '\1\4'

-- The first offset history holds and a time not after that entry's; last + 1 where it holds none.
-- Entries leave by logic at once and from memory in whole nodes (MAXLEN ~, MINID ~).
local function held(log, blanks, channel)
  local ttl, last = channel.ttl, channel.last
  local from, from_ts = math.max(channel.first, last - channel.size + 1), channel.first_ts
  if from > last or now - channel.ts > ttl or redis.call('EXISTS', log) == 0 then
    return last + 1, now
  end
  if now - from_ts <= ttl then return from, from_ts end
  local to = last
  while from < to do
    local middle = math.floor((from + to) / 2)
    local entry = redis.call('XRANGE', log, text(middle), text(middle))[1]
    local ts = entry and entry[2][2] or redis.call('HGET', blanks, text(middle))
    if ts and now - tonumber(ts) > ttl then from = middle + 1 else to = middle end
  end
  local entry = redis.call('XRANGE', log, text(from), text(from))[1]
  return from, entry and tonumber(entry[2][2]) or now - ttl
end

-- What the meta of a channel says; nil where there is none, or none that makes sense. The life is
-- the epoch's; only a life in which nothing was minted has no epoch.
local function read(meta)
  local m = redis.call('HMGET', meta, 'life', 'last', 'ts', 'epoch', 'keeps', 'first', 'first_ts',
    'until', 'log_until', 'floor', 'generations')
  local last, ts = tonumber(string.match(m[2] or '', '^%d+$')), tonumber(m[3])
  local life = string.match(m[4] or m[1] or '', '^%x+')
  local minted = (last or 0) > 0 and string.match(m[4] or '', '^%x+%.%w+%.%w+%.%w*$')
    or last == 0 and not m[4]
  local keeps = string.match(m[5] or '', '^%d+ %d+ %d+ %d+ [01]$')
  if not (last and ts and minted and keeps and life and #life == 10) then return nil end
  return {
    life = life, last = last, ts = ts, epoch = m[4], keeps = keeps,
    first = tonumber(m[6]) or last + 1, first_ts = tonumber(m[7]) or 0,
    ends = tonumber(m[8]) or 0, log_ends = tonumber(m[9]) or 0,
    floor = tonumber(m[10]) or 0, generations = m[11] or '',
  }
end

-- Fills in what a channel keeps, from the text that `publish` stored: history's size, its
-- lifetime, the lifetime of tombstones, of the idle channel (ms), and whether it keeps state.
local function keep(channel)
  local size, ttl, tombstones, idle, state =
    string.match(channel.keeps, '^(%d+) (%d+) (%d+) (%d+) ([01])$')
  channel.size, channel.ttl = tonumber(size) or 0, tonumber(ttl) or 0
  channel.tombstones, channel.idle = tonumber(tombstones) or 0, tonumber(idle) or 0
  channel.state = state == '1'
  return channel
end

-- A head: life, last offset, first offset held, state floor, generations, whether it has a meta.
local function head(meta, log, blanks, name)
  local channel = read(meta)
  if not channel then return {life_of_unknown(name), 0, 1, 0, '', 0} end
  local first = held(log, blanks, keep(channel))
  local generations, newest = channel.generations, string.sub(channel.epoch or '', 12)
  -- Older ones that do not lead to the present one prove nothing.
  if string.sub(generations, -#newest) ~= newest then generations = newest end
  return {channel.life, channel.last, first, channel.floor, generations, 1}
end

