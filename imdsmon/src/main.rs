//! The `imdsmon` command: a thin shell over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    imdsmon::command::main()
}
