-- The rest of `publish.lua`: what is not its common case, with the same keys and arguments.
local ID, BLANKS, NAMES, ENDS = KEYS[4], KEYS[9], KEYS[10], KEYS[11]
local OF_CHANNEL = {META, LOG, STATE, LIVE, TOMBSTONES, DUE, BLANKS}
local guard = ARGV[14] or ''
local SEGMENTS_MAX = 16 -- of a lineage, as in lineage.rs
-- Expired keys and tombstones one publication clears away, so that its time is bounded; and where
-- the state seems full: an expired key must not keep a new one out.
local PURGE, PURGE_FULL = 16, 1024
-- Lifetimes are this much longer than they must be, so that few publications renew them.
local SLACK = 1.25
local NAMES_PURGE = 16 -- names of ended channels one publication clears away

local function base36(number)
  local digits = ''
  repeat
    local digit = number % 36
    digits = string.sub('0123456789abcdefghijklmnopqrstuvwxyz', digit + 1, digit + 1) .. digits
    number = math.floor(number / 36)
  until number == 0
  return digits
end

-- The epoch in which this generation mints the next offset, and whether it begins with it.
local function minted(channel)
  local before = string.match(channel.epoch or '', '^[^.]*%.([^.]*)') or ''
  if before == generation then return channel.epoch, false end
  local start = base36(channel.last + 1)
  return channel.life .. '.' .. generation .. '.' .. start .. '.' .. before, true
end

-- Drops one entry of the state; whether it was a tombstone, and then its offset.
local function drop(which)
  local offset = tonumber(redis.call('ZSCORE', TOMBSTONES, which) or '')
  redis.call('HDEL', STATE, which)
  redis.call('ZREM', DUE, which)
  redis.call('ZREM', offset and TOMBSTONES or LIVE, which)
  return offset
end

-- Drops what is due and the oldest tombstones past their bound. A dropped tombstone raises the
-- floor, at once with it.
local function purge()
  local most = redis.call('ZCARD', LIVE) >= keys_max and PURGE_FULL or PURGE
  local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, most)
  local surplus = redis.call('ZCARD', TOMBSTONES) - keys_max
  local floor = 0
  for _, which in ipairs(due) do
    local offset = drop(which)
    if offset then
      surplus = surplus - 1
      floor = math.max(floor, offset)
    end
  end
  if surplus > 0 then
    for _, which in ipairs(redis.call('ZRANGE', TOMBSTONES, 0, math.min(surplus, most) - 1)) do
      floor = math.max(floor, drop(which) or 0)
    end
  end
  if floor > 0 then
    local before = tonumber(redis.call('HGET', META, 'floor') or '') or 0
    if floor > before then redis.call('HSET', META, 'floor', text(floor)) end
  end
end

-- The last offset of the key or of the channel (0: none), and its epoch.
local function last_of(channel)
  if not keyed then return channel.last, (minted(channel)) end
  local offset = tonumber(redis.call('ZSCORE', LIVE, field) or '')
  local due = offset and tonumber(redis.call('ZSCORE', DUE, field) or '')
  if not offset or (due and due <= now) then return 0, (minted(channel)) end
  local entry = redis.call('HGET', STATE, field) or ''
  return offset, string.match(entry, '^%d+ %d+ %d+ (%S+)\n') or ''
end

-- Whether the position the guard names is on this log: `Lineage::stand` in lineage.rs.
local function on_log(channel)
  local life, theirs, start, previous =
    string.match(guard, '^([^.]*)%.([^.]*)%.([^.]*)%.([^.]*)$')
  if life ~= channel.life then return false end
  local ends, before = {}, nil
  local segments = redis.call('HGET', META, 'generations') or ''
  for begun, from in string.gmatch(segments, '([^.;]+)%.([^.;]+)%.[^.;]*') do
    if before then ends[before] = tonumber(from, 36) - 1 end
    before = begun
  end
  if before then ends[before] = channel.last end
  ends[generation] = ends[generation] or channel.last
  local follows = ends[previous] and math.min(ends[previous], (tonumber(start, 36) or 1) - 1)
  return (tonumber(ARGV[15]) or 0) <= (ends[theirs] or follows or -1)
end

-- The answer to an id that was applied before.
local function seen(channel)
  local record = digest ~= '' and redis.call('GET', ID)
  if not record then return nil end
  local body, offset, epoch, life = string.match(record, '^(%S+) (%d+) (([^.]+)%S+)$')
  if life ~= channel.life then return nil end
  if body ~= digest then return {'CONFLICT'} end
  return {'DUPLICATE', offset, epoch, generation}
end

-- The answer where the guard does not hold or the state has no room.
local function refused(channel)
  local adds = keyed and not removal and redis.call('ZCARD', LIVE) >= keys_max
  if guard == '' and not adds then return nil end
  local last, epoch = last_of(channel)
  local holds = guard == '' or (guard == 'absent' and last == 0)
    or (last ~= 0 and tonumber(ARGV[15]) == last and on_log(channel))
  if not holds then return {'REFUSED', text(last), epoch} end
  return adds and last == 0 and {'FULL'} or nil
end

-- What the channel keeps became something else: what it may keep no more goes at once.
local function keep_otherwise(channel)
  channel.first, channel.first_ts = held(LOG, BLANKS, keep(channel))
  channel.keeps = ARGV[6]
  keep(channel)
  if channel.size == 0 then
    redis.call('DEL', LOG, BLANKS)
  elseif channel.first <= channel.last then
    redis.call('XTRIM', LOG, 'MINID', text(channel.first))
  end
  if not channel.state then redis.call('DEL', STATE, LIVE, TOMBSTONES, DUE) end
end

-- Appends to the stream; the error, or 'AHEAD' where the stream has gone further than the counter.
-- A write before it, be it of nothing, would let it pass without memory.
local function append(channel, offset, ts)
  local trims, begins = false, false
  if channel.first <= channel.last and redis.call('EXISTS', LOG) == 0 then
    channel.first = channel.last + 1
  end
  -- Readers do not see what is over; it need not go at once.
  if channel.first <= channel.last and now - channel.first_ts > channel.ttl * SLACK then
    channel.first, channel.first_ts = held(LOG, BLANKS, channel)
    trims = channel.first <= channel.last
  end
  if channel.first > channel.last then
    channel.first, channel.first_ts, channel.log_ends = channel.last + 1, ts, 0
    begins = true
  end
  local added = redis.pcall('XADD', LOG, 'MAXLEN', '~', text(channel.size), offset .. '-0',
    't', text(ts), 'd', data)
  if type(added) == 'table' and added.err then
    return string.find(added.err, 'equal or smaller', 1, true) and 'AHEAD' or added
  end
  if begins then
    redis.call('XTRIM', LOG, 'MINID', offset)
    redis.call('DEL', BLANKS)
  elseif trims then
    redis.call('XTRIM', LOG, 'MINID', '~', text(channel.first))
  end
  return nil
end

-- Makes the publication the newest of its key, or the newest without one.
local function set_state(channel, entries, offset, ts, epoch)
  local due = 0
  if removal then due = ts + channel.tombstones
  elseif lifetime then due = math.min(ts + lifetime, INTEGER_MAX) end
  -- A key of Redis that begins needs its lifetime.
  local function rank(key, score)
    if redis.call('ZADD', key, score, field) == 1 and redis.call('ZCARD', key) == 1 then
      redis.call('PEXPIREAT', key, text(channel.ends))
    end
  end
  local header = table.concat({offset, text(ts), text(due), epoch}, ' ')
  redis.call('HSET', STATE, field, header .. '\n' .. data)
  if entries == 0 then redis.call('PEXPIREAT', STATE, text(channel.ends)) end
  if field ~= '-' then
    redis.call('ZREM', removal and LIVE or TOMBSTONES, field)
    rank(removal and TOMBSTONES or LIVE, offset)
  end
  if due > 0 then rank(DUE, text(due)) else redis.call('ZREM', DUE, field) end
end

-- Lets every key live on, and the name be listed. The list is a convenience: what is wrong with
-- it must not stop a publication half way.
local function extend(channel)
  local ends = text(channel.ends)
  for _, key in ipairs({META, STATE, LIVE, TOMBSTONES, DUE}) do
    redis.call('PEXPIREAT', key, ends)
  end
  redis.pcall('ZADD', NAMES, 0, ARGV[4])
  redis.pcall('ZADD', ENDS, ends, ARGV[4])
  local over = redis.pcall('ZRANGEBYSCORE', ENDS, '-inf', text(now), 'LIMIT', 0, NAMES_PURGE)
  for _, name in ipairs(over) do
    redis.pcall('ZREM', NAMES, name)
    redis.pcall('ZREM', ENDS, name)
  end
  for _, key in ipairs({NAMES, ENDS}) do
    if redis.call('PTTL', key) < channel.ends - now then redis.call('PEXPIREAT', key, ends) end
  end
end

local function extend_log(channel)
  redis.call('PEXPIREAT', LOG, text(channel.log_ends))
  redis.call('PEXPIREAT', BLANKS, text(channel.log_ends))
  local blanks = redis.pcall('HKEYS', BLANKS)
  for _, offset in ipairs(blanks) do
    if tonumber(offset) < channel.first then redis.call('HDEL', BLANKS, offset) end
  end
end

-- What the meta says after the publication; the error, and whether lifetimes are to be renewed.
local function write_meta(channel, offset, ts, epoch, begun)
  local idle = math.max(channel.idle, channel.state and lifetime or 0)
  local extends, extends_log = now + idle > channel.ends, false
  if extends then channel.ends = math.floor(now + idle * SLACK) + 1 end
  local care = channel.ends - channel.idle
  if channel.size > 0 then
    extends_log = now + channel.ttl > channel.log_ends
    if extends_log then channel.log_ends = math.floor(now + channel.ttl * SLACK) + 1 end
    care = math.min(care, channel.log_ends - channel.ttl,
      math.floor(channel.first_ts + channel.ttl * SLACK))
  end
  -- What the common case reads comes first: a small hash is searched from its beginning.
  local fields = {'last', offset, 'ts', text(ts), 'epoch', epoch, 'keeps', channel.keeps,
    'care', text(care), 'life', channel.life, 'first', text(channel.first),
    'first_ts', text(channel.first_ts), 'until', text(channel.ends),
    'log_until', text(channel.log_ends)}
  if begun then
    local segments = {}
    for segment in string.gmatch(redis.call('HGET', META, 'generations') or '', '[^;]+') do
      segments[#segments + 1] = segment
    end
    segments[#segments + 1] = string.sub(epoch, #channel.life + 2)
    fields[#fields + 1] = 'generations'
    fields[#fields + 1] = table.concat(segments, ';', math.max(#segments - SEGMENTS_MAX, 0) + 1)
  end
  local written = redis.pcall('HSET', META, unpack(fields))
  return type(written) == 'table' and written or nil, extends, extends_log
end

local function announce(kind, offset, ts, epoch, rest)
  local payload = kind .. ' ' .. offset .. ' ' .. text(ts) .. ' ' .. epoch .. '\n' .. rest
  redis.call(ARGV[2], ARGV[3], payload)
end

-- Publishes. Begins the life `fresh` where it is given; nil: the stream went further than the
-- counter, and a fresh life is to be begun.
local function publish(fresh)
  local channel = not fresh and read(META)
  local known = channel and true
  if not known then
    -- Keys without their meta, or a name that is still listed without any: not a new channel.
    local listed = tonumber(redis.pcall('ZSCORE', ENDS, ARGV[4])) or 0
    if not fresh and (listed > now or redis.call('EXISTS', unpack(OF_CHANNEL)) > 0) then
      return nil
    end
    channel = {
      life = fresh or life_of_unknown(ARGV[4]), last = 0, ts = 0, keeps = ARGV[6],
      first = 1, first_ts = 0, ends = 0, log_ends = 0,
    }
  end
  local answer = known and seen(channel)
  if answer then return answer end
  if known and stateful then purge() end
  answer = refused(channel)
  if answer then return answer end
  if known and channel.keeps ~= ARGV[6] then keep_otherwise(channel) else keep(channel) end

  local offset, ts = text(channel.last + 1), math.max(now, channel.ts)
  local entries = channel.state and redis.call('HLEN', STATE)
  local failed = channel.size > 0 and append(channel, offset, ts)
  if failed == 'AHEAD' then return nil end
  if failed then return failed end
  local epoch, begun = minted(channel)
  local extends, extends_log
  failed, extends, extends_log = write_meta(channel, offset, ts, epoch, begun)
  if failed then return failed end
  if channel.state then set_state(channel, entries, offset, ts, epoch) end
  if digest ~= '' then
    redis.call('SET', ID, digest .. ' ' .. offset .. ' ' .. epoch, 'PX', ARGV[9])
  end
  if extends then extend(channel) end
  if extends_log then extend_log(channel) end
  if fresh then announce('reset', '0', ts, epoch, '') end
  announce('append', offset, ts, epoch, data)
  return {'OK', offset, epoch}
end

local answer = publish()
if answer then return answer end
-- Nothing of this log can be trusted: it is forgotten, and what is known of it told apart.
redis.call('DEL', unpack(OF_CHANNEL))
return publish(fresh_life(ARGV[4]))
