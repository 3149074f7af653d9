//! See `lictor::fuzz::hpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lictor::fuzz::hpack(data));
