//! Writes whole lines to what may take only a part of them.

use std::io::{self, Write};

/// Writes all of it, or tells how much was taken. What is `torn` had a line begun and not ended.
pub(super) fn put(to: &mut impl Write, lines: &[u8], torn: &mut bool) -> (usize, io::Result<()>) {
    if *torn && let Err(error) = to.write_all(b"\n") {
        return (0, Err(error));
    }
    *torn = false;
    let mut written = 0;
    while written < lines.len() {
        match to.write(&lines[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                *torn = written > 0 && lines[written - 1] != b'\n';
                return (written, Err(error));
            }
        }
    }
    (written, to.flush())
}

/// How many there are.
#[expect(clippy::naive_bytecount, reason = "only what is lost is counted")]
pub(super) fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&b| b == b'\n').count() as u64
}
