//! What the fuzzers have collected, each time anew: every file of their corpus through what it was collected for.

use std::{fs, path::Path};

type Target = fn(&[u8]);

#[test]
fn nothing_that_the_fuzzers_kept_fails() {
    let targets: [(&str, Target); 6] = [
        ("answers", lictor::fuzz::answers),
        ("chunks", lictor::fuzz::chunks),
        ("hpack", lictor::fuzz::hpack),
        ("http2", lictor::fuzz::http2),
        ("paths", lictor::fuzz::paths),
        ("requests", lictor::fuzz::requests),
    ];
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "no corpus for {name}");
        for file in files {
            target(&fs::read(file).unwrap());
        }
    }
}
