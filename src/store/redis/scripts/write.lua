-- Writes a checkpoint, which is itself a claim; creates the session where there is none.
-- ARGV: 2: attempt, 3: nonce, 4: node or '', 5: lifetime ms, 6: body.
-- Answers {'OK'} or {'FENCED', attempt}.
local holder = held_against(ARGV[2], ARGV[3])
if holder then return {'FENCED', holder} end
redis.call('HSET', KEYS[2], 'attempt', ARGV[2], 'nonce', ARGV[3], 'node', ARGV[4], 'body', ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {'OK'}
