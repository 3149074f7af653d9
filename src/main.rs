//! The program: its exit code. All else is in the library.

use std::process::ExitCode;

/// A request makes and drops some twenty pieces of memory, a few of them too large for the quick lists of the C library.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lictor::cli::main()
}
