//! See `lictor::fuzz::paths`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lictor::fuzz::paths(data));
