//! What cargo says about the workspace.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::Command;

/// The package of the benchmarks, whose features pull in other caches to compare with.
pub(crate) const BENCHES: &str = "larder-benches";

/// The package of the tests that cross crates, which the program of the stampede belongs to.
pub(crate) const TESTS: &str = "larder-tests";

/// The members of the workspace, as `cargo metadata` lists them.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The folder of the package's manifest.
    pub(crate) dir: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: Vec<String>,
    /// The files at the root of its library and of its binaries.
    pub(crate) crate_roots: Vec<PathBuf>,
    pub(crate) examples: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: DependencyKind,
    /// Whether the dependency asks for a version (and not for a path alone).
    pub(crate) versioned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependencyKind {
    Normal,
    Build,
    Dev,
}

impl Workspace {
    /// Asks cargo for the workspace that this program was built in.
    ///
    /// # Errors
    /// If a manifest cannot be parsed; cargo's own message is part of the error.
    pub(crate) fn load() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let json = Command::cargo(here).args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
        Self::parse(&json).context("`cargo metadata` answered in a form that is not understood")
    }

    fn parse(json: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(json)?;
        let root = PathBuf::from(text(&metadata, "workspace_root")?);
        let packages = list(&metadata, "packages")?.iter().map(Package::parse).collect::<Result<_>>()?;
        Ok(Self { root, packages })
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// # Errors
    /// If the workspace has no such package.
    pub(crate) fn require(&self, name: &str) -> Result<&Package> {
        match self.package(name) {
            Some(package) => Ok(package),
            None => bail!("the workspace has no package `{name}`"),
        }
    }

    /// The names of all members.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.packages.iter().map(|package| package.name.as_str()).collect()
    }

    /// What selects every package, each with all of its features except the benchmarks' own.
    ///
    /// All steps that compile the workspace use these arguments, so that they share one set of compiled dependencies.
    pub(crate) fn everything(&self) -> Vec<String> {
        let mut args = vec!["--workspace".to_owned()];
        let features: Vec<String> = self
            .packages
            .iter()
            .filter(|package| package.name != BENCHES)
            .flat_map(|package| package.features.iter().map(move |feature| format!("{}/{feature}", package.name)))
            .collect();
        if !features.is_empty() {
            args.extend(["--features".to_owned(), features.join(",")]);
        }
        args
    }
}

impl Package {
    fn parse(package: &Value) -> Result<Self> {
        let manifest = PathBuf::from(text(package, "manifest_path")?);
        let dir = manifest.parent().context("`manifest_path` has no folder")?.to_owned();
        let mut crate_roots = Vec::new();
        let mut examples = Vec::new();
        for target in list(package, "targets")? {
            let kinds = list(target, "kind")?;
            if kinds.iter().any(|kind| matches!(kind.as_str(), Some("lib" | "proc-macro" | "bin"))) {
                crate_roots.push(PathBuf::from(text(target, "src_path")?));
            } else if kinds.iter().any(|kind| kind == "example") {
                examples.push(text(target, "name")?.to_owned());
            }
        }
        let features = package.get("features").and_then(Value::as_object).context("`features` is missing")?;
        Ok(Self {
            name: text(package, "name")?.to_owned(),
            dir,
            description: optional_text(package, "description"),
            license: optional_text(package, "license"),
            dependencies: list(package, "dependencies")?.iter().map(Dependency::parse).collect::<Result<_>>()?,
            features: features.keys().filter(|feature| *feature != "default").cloned().collect(),
            crate_roots,
            examples,
        })
    }
}

impl Dependency {
    fn parse(dependency: &Value) -> Result<Self> {
        let kind = match dependency.get("kind").and_then(Value::as_str) {
            None => DependencyKind::Normal,
            Some("build") => DependencyKind::Build,
            Some("dev") => DependencyKind::Dev,
            Some(other) => bail!("`kind` of a dependency is `{other}`, expected `build`, `dev` or nothing"),
        };
        let versioned = text(dependency, "req")? != "*";
        Ok(Self { name: text(dependency, "name")?.to_owned(), kind, versioned })
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value.get(field).and_then(Value::as_str).with_context(|| format!("`{field}` is missing or no text"))
}

fn optional_text(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).filter(|text| !text.trim().is_empty()).map(ToOwned::to_owned)
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    value.get(field).and_then(Value::as_array).with_context(|| format!("`{field}` is missing or no list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "workspace_root": "/project",
        "packages": [
            {
                "name": "larder-core", "manifest_path": "/project/crates/larder-core/Cargo.toml",
                "description": "Core", "license": "MIT", "features": {"default": [], "tokio": []},
                "dependencies": [
                    {"name": "bytes", "kind": null, "req": "^1"},
                    {"name": "larder-testing", "kind": "dev", "req": "*"}
                ],
                "targets": [
                    {"kind": ["lib"], "name": "larder_core", "src_path": "/project/crates/larder-core/src/lib.rs"},
                    {"kind": ["example"], "name": "keys", "src_path": "/project/crates/larder-core/examples/keys.rs"},
                    {"kind": ["test"], "name": "it", "src_path": "/project/crates/larder-core/tests/it/main.rs"}
                ]
            },
            {
                "name": "larder-benches", "manifest_path": "/project/benches/Cargo.toml", "description": " ",
                "license": null, "features": {"rivals": []}, "dependencies": [], "targets": []
            }
        ]
    }"#;

    #[test]
    fn metadata_is_read_into_packages() {
        let workspace = Workspace::parse(METADATA).unwrap();
        let core = workspace.require("larder-core").unwrap();
        assert_eq!(core.dir, Path::new("/project/crates/larder-core"));
        assert_eq!(core.crate_roots, [Path::new("/project/crates/larder-core/src/lib.rs")]);
        assert_eq!(core.examples, ["keys"]);
        assert_eq!(
            core.dependencies.iter().map(|d| (d.kind, d.versioned)).collect::<Vec<_>>(),
            [(DependencyKind::Normal, true), (DependencyKind::Dev, false)]
        );
    }

    #[test]
    fn a_blank_description_counts_as_none() {
        let workspace = Workspace::parse(METADATA).unwrap();
        assert_eq!(workspace.require(BENCHES).unwrap().description, None);
    }

    #[test]
    fn the_features_of_the_benchmarks_stay_off() {
        let workspace = Workspace::parse(METADATA).unwrap();
        assert_eq!(workspace.everything(), ["--workspace", "--features", "larder-core/tokio"]);
    }

    #[test]
    fn an_unexpected_form_is_an_error_that_names_the_field() {
        let error = Workspace::parse(r#"{"packages": []}"#).unwrap_err();
        assert!(error.to_string().contains("workspace_root"), "{error}");
    }
}
