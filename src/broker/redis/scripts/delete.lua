-- Forgets the log of a channel and begins another life. Nothing where there is no channel.
-- KEYS: 2: meta, 3: log, 4: state, 5: live, 6: tombstones, 7: due, 8: blanks.
-- ARGV: 2: PUBLISH or SPUBLISH, 3: channel of announcements, 4: name.
-- Answers {'OK', generation, head}.
local channel = read(KEYS[2])
if channel then
  local ts, life = text(math.max(now, channel.ts)), fresh_life(ARGV[4])
  redis.call('DEL', unpack(KEYS, 2, 8))
  redis.call('HSET', KEYS[2], 'life', life, 'last', '0', 'ts', ts, 'keeps', channel.keeps,
    'until', text(channel.ends))
  redis.call('PEXPIREAT', KEYS[2], text(channel.ends))
  local epoch = life .. '.' .. generation .. '.1.'
  redis.call(ARGV[2], ARGV[3], 'reset 0 ' .. ts .. ' ' .. epoch .. '\n')
end
return {'OK', generation, head(KEYS[2], KEYS[3], KEYS[8], ARGV[4])}
