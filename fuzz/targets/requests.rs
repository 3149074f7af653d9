//! See `lictor::fuzz::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lictor::fuzz::requests(data));
