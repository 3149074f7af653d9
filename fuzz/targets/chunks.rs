//! See `lictor::fuzz::chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lictor::fuzz::chunks(data));
