//! Runs `targets::frames_msgpack` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::frames_msgpack(data));
