-- Forgets a session, if the fence holds it.
-- ARGV: 2: attempt, 3: nonce.
-- Answers {'OK'} or {'FENCED', attempt}.
local holder = held_against(redis.call('GET', KEYS[2]), ARGV[2], ARGV[3])
if holder then return {'FENCED', holder} end
redis.call('DEL', KEYS[2])
return {'OK'}
