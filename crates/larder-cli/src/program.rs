//! From arguments to an exit code.

use std::{
    ffi::OsString,
    io::{self, ErrorKind, Write},
};

use clap::Parser;

use crate::{
    commands,
    endpoint::without_logins,
    options::Options,
    report::{Report, Usage, printable},
};

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG_ARGUMENTS: u8 = 2;

/// Runs the program: `arguments` begin with its name, answers go to `out`, one line of what went wrong to `err`. Answers
/// the exit code: 0 done, 1 failed, 2 wrong arguments.
///
/// Starts a runtime of its own and blocks until the command is done; not to be called within one.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            tell(err, &without_logins(&error.to_string()));
            return WRONG_ARGUMENTS;
        }
        Err(help) => return written(write(out, help.to_string().as_bytes()), err),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(err, &format!("cannot start: {error}"), FAILED),
    };
    match runtime.block_on(commands::run(&options)) {
        Ok(report) => answer(&report, options.common.json, out, err),
        Err(error) => {
            let code = if error.is::<Usage>() { WRONG_ARGUMENTS } else { FAILED };
            complain(err, &format!("{error:#}"), code)
        }
    }
}

fn answer(report: &Report, as_json: bool, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let answered = match &report.raw {
        Some(bytes) => write(out, bytes),
        None if as_json => write(out, format!("{}\n", report.json).as_bytes()),
        None if report.text.is_empty() => Ok(()),
        None => write(out, format!("{}\n", report.text).as_bytes()),
    };
    let code = written(answered, err);
    match &report.failure {
        None => code,
        Some(failure) => complain(err, failure, FAILED),
    }
}

fn written(answered: io::Result<()>, err: &mut dyn Write) -> u8 {
    match answered {
        Ok(()) => DONE,
        // The reader has seen enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => DONE,
        Err(error) => complain(err, &format!("cannot write the answer: {error}"), FAILED),
    }
}

/// One line, whatever the message holds.
fn complain(err: &mut dyn Write, message: &str, code: u8) -> u8 {
    tell(err, &format!("larder: {}\n", printable(&without_logins(message))));
    code
}

/// Where standard error is gone, only the exit code is left to tell with.
fn tell(err: &mut dyn Write, text: &str) {
    write(err, text.as_bytes()).unwrap_or_default();
}

fn write(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
