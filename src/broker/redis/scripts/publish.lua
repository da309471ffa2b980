-- One publication, whole or not at all: dedup, guard, bounds of the state, append, state,
-- announcement. Scripts do not roll back, so the write that can fail (memory, a key of another
-- type) comes first and by `pcall`, after every key it will touch was read once.
-- This file takes the common case, in half the time: the channel is as its last publication left
-- it, by this generation, nothing of it is due and nothing can be refused. Whatever else it is,
-- nothing is done here and `publish_rest.lua` follows.
-- KEYS: 2: meta, 3: log, 4: record of the id, 5: state, 6: live, 7: tombstones, 8: due, 9: blanks,
--   10: names, 11: ends of names.
-- ARGV: 2: PUBLISH or SPUBLISH, 3: channel of announcements, 4: name, 5: data, 6: what the channel
--   keeps (see `keep` in channel.lua), 7: size of its history. From here on missing is as '':
--   8: digest of the body or '' without an id, 9: lifetime of the id ms,
--   10: field of the state: '=' and the key, '-' without a key, '' without a state, 11: most keys
--   of the state, 12: lifetime of the publication ms or '', 13: 1 for a removal of the key,
--   14: guard: '', 'absent' or an epoch, 15: offset of the guard.
-- Answers {'OK', offset, epoch}, {'DUPLICATE', offset, epoch, generation of the server},
-- {'CONFLICT'}, {'FULL'},
-- {'REFUSED', offset, epoch} with the last position, or the error of the write.
local INTEGER_MAX = 9007199254740991
local META, LOG, STATE, LIVE, TOMBSTONES, DUE = KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local data, digest, field, removal = ARGV[5], ARGV[8] or '', ARGV[10] or '', ARGV[13] == '1'
local stateful, keys_max = field ~= '', tonumber(ARGV[11])
local keyed, lifetime = stateful and field ~= '-', tonumber(ARGV[12])

local meta = redis.call('HMGET', META, 'last', 'ts', 'epoch', 'keeps', 'care')
local last, ts, epoch = tonumber(meta[1]), tonumber(meta[2]), meta[3]
-- An epoch is a life of 10 characters, the generation of 12, and more.
local common = last and last > 0 and ts and epoch and string.sub(epoch, 12, 23) == generation
  and meta[4] == ARGV[6] and now < (tonumber(meta[5]) or 0) and (ARGV[14] or '') == ''
  and not (digest ~= '' and redis.call('GET', KEYS[4]))
if common and stateful then
  local live, idle = redis.call('ZCARD', LIVE), string.match(ARGV[6], '^%d+ %d+ %d+ (%d+)')
  common = live < keys_max and redis.call('ZCARD', TOMBSTONES) <= keys_max
    and redis.call('HLEN', STATE) > 0 and redis.call('ZCOUNT', DUE, '-inf', string.format('%d', now)) == 0
    -- Keys of Redis that would begin here, and what would outlive them, are not common.
    and not removal and (lifetime or 0) <= tonumber(idle) and keyed == (lifetime ~= nil)
    and (not keyed or (live > 0 and redis.call('EXISTS', DUE) == 1))
end
if common then
  -- Numbers as texts: Redis writes a Lua number several times slower.
  local time = math.max(now, ts)
  local offset, when = string.format('%d', last + 1), string.format('%d', time)
  local added = ARGV[7] == '0' or redis.pcall('XADD', LOG, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[7],
    offset .. '-0', 't', when, 'd', data)
  -- A stream that is missing, ahead or refused is not common either: nothing was written.
  if added and type(added) ~= 'table' then
    local counted = redis.pcall('HSET', META, 'last', offset, 'ts', when)
    if type(counted) == 'table' then return counted end
    if stateful then
      local due = lifetime and math.min(time + lifetime, INTEGER_MAX) or 0
      due = string.format('%d', due)
      redis.call('HSET', STATE, field,
        offset .. ' ' .. when .. ' ' .. due .. ' ' .. epoch .. '\n' .. data)
      if keyed then
        redis.call('ZADD', LIVE, offset, field)
        redis.call('ZREM', TOMBSTONES, field)
        redis.call('ZADD', DUE, due, field)
      else
        redis.call('ZREM', DUE, field)
      end
    end
    if digest ~= '' then
      redis.call('SET', KEYS[4], digest .. ' ' .. offset .. ' ' .. epoch, 'PX', ARGV[9])
    end
    redis.call(ARGV[2], ARGV[3], 'append ' .. offset .. ' ' .. when .. ' ' .. epoch .. '\n' .. data)
    return {'OK', offset, epoch}
  end
end
