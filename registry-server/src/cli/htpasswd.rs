//! `htpasswd`: a line for a file of users.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, ensure};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Failure, print};
use crate::auth;

/// Bcrypt looks at no more of a password.
const LONGEST_PASSWORD: usize = 72;

pub(super) fn htpasswd(user: &str, cost: u32) -> Result<(), Failure> {
    let password = checked_password(user).map_err(Failure::Usage)?;
    let parts = bcrypt::hash_with_result(password, cost).context("hash the password")?;
    print(&format!("{user}:{}\n", parts.format_for_version(bcrypt::Version::TwoY)))
}

fn checked_password(user: &str) -> anyhow::Result<String> {
    ensure!(
        auth::is_valid_user(user),
        "user {user:?}: a name has no colon, no line break, no blank end and no leading #"
    );
    let password = read_password().context("read the password")?;
    ensure!(!password.is_empty(), "the password is empty");
    let fits = password.len() <= LONGEST_PASSWORD;
    ensure!(fits, "the password is longer than the {LONGEST_PASSWORD} bytes that bcrypt looks at");
    Ok(password)
}

/// The first line of standard input; from a terminal, what is typed twice.
fn read_password() -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return Ok(read_line()?);
    }
    let password = prompt("Password: ")?;
    ensure!(password == prompt("Again: ")?, "the two differ");
    Ok(password)
}

/// Asks at the terminal and reads a line that is not shown.
fn prompt(question: &str) -> io::Result<String> {
    let terminal = io::stdin();
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    write!(io::stderr(), "{question}")?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let line = read_line();
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    writeln!(io::stderr())?;
    line
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}
