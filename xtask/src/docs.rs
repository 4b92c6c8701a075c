//! `cargo xtask docs`: the API documentation and the links of the pages.

use anyhow::{Result, bail};

use crate::{links, process::Command, workspace::Workspace};

/// Builds the documentation of the libraries with warnings denied, and checks the links of the Markdown pages.
///
/// Programs are left out: the command-line tool is called `larder` as the facade is, and both would write to one folder.
///
/// # Errors
/// If the documentation does not build, or a link points at no file. The broken links have been printed.
pub(crate) fn run(workspace: &Workspace, open: bool) -> Result<()> {
    let broken = links::check(&workspace.root)?;
    broken.iter().for_each(|problem| println!("error: {problem}"));

    let cargo = Command::cargo(&workspace.root).env("RUSTDOCFLAGS", "-D warnings");
    let doc = cargo.args(["doc", "--quiet", "--no-deps", "--lib"]).args(workspace.everything());
    doc.args(open.then_some("--open")).run()?;
    if !broken.is_empty() {
        bail!("{} of the Markdown pages' links point at nothing", broken.len());
    }
    Ok(())
}
