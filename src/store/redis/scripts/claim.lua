-- Takes a session over: stores the fence and the node, keeps the body.
-- ARGV: 2: attempt, 3: nonce, 4: node, 5: lifetime ms.
-- Answers {'OK', body, node that held it}, {'UNKNOWN'} or {'FENCED', attempt}.
if redis.call('EXISTS', KEYS[2]) == 0 then return {'UNKNOWN'} end
local holder = held_against(ARGV[2], ARGV[3])
if holder then return {'FENCED', holder} end
local before = redis.call('HMGET', KEYS[2], 'body', 'node')
redis.call('HSET', KEYS[2], 'attempt', ARGV[2], 'nonce', ARGV[3], 'node', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {'OK', before[1] or '', before[2] or ''}
