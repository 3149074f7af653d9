//! The program: its exit code. All else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lictor::cli::main()
}
