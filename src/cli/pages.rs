//! `lictor completions` and `lictor man`: for the shell and for man, made of the commands themselves.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, done, status::unread};

/// Exit 1: standard output does not take it.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lictor", &mut script);
    give(&script)
}

/// Exit 1: standard output does not take it.
pub fn man() -> ExitCode {
    match page() {
        Ok(page) => give(&page),
        Err(error) => done(Err(error.into())),
    }
}

/// Writes it to whoever reads it, as far as they do.
pub fn give(text: &[u8]) -> ExitCode {
    let mut out = io::stdout();
    let given = out.write_all(text).and_then(|()| out.flush()).or_else(unread);
    done(given.context("cannot write to standard output"))
}

/// One page with all commands: an option that is named only there is found with the others.
fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        subcommand(command, &mut page)?;
    }
    page.extend_from_slice(REST.as_bytes());
    Ok(page)
}

fn subcommand(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let escaped = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SS \"{}\"", escaped(&format!("lictor {}", command.get_name())))?;
    // The zero-width mark keeps a line that begins with a dot from being a request.
    writeln!(page, "\\&{}", escaped(&about))?;
    let shown = |arg: &&clap::Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    for arg in command.get_arguments().filter(shown) {
        let usage = arg.to_string();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let takes = arg.get_action().takes_values() && !values.is_empty();
        let one_of = if takes { format!(" ({})", values.join(", ")) } else { String::new() };
        writeln!(page, ".TP\n\\fB{}\\fR", escaped(&format!("{short}{usage}")))?;
        writeln!(page, "\\&{}", escaped(&format!("{help}{one_of}")))?;
    }
    Ok(())
}

const REST: &str = r".SH FILES
.TP
\fBlictor.toml\fR, \fB/etc/lictor/lictor.toml\fR
The configuration, where no other is named: the first of them that exists.
.SH ENVIRONMENT
.TP
\fBLICTOR_SECTION__KEY\fR
One key of the configuration, such as LICTOR_HTTP__LISTEN.
.TP
\fBCONSUL_HTTP_ADDR\fR, \fBCONSUL_HTTP_TOKEN\fR, \fBCONSUL_HTTP_TOKEN_FILE\fR, \fBCONSUL_HTTP_SSL\fR, \fBCONSUL_CACERT\fR, \fBCONSUL_CLIENT_CERT\fR, \fBCONSUL_CLIENT_KEY\fR, \fBCONSUL_NAMESPACE\fR
As Consul's own programs take them, for what [consul] leaves out.
.TP
\fBNO_COLOR\fR
No colours, also on a terminal.
.SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Drain: requests under way may end. A second one ends at once.
.TP
\fBSIGHUP\fR
Reads the configuration again.
.SH EXIT STATUS
0: done. 1: failed, or not valid, or not ready. 2: wrong usage.
";
