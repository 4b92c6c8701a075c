//! The order of the crates: dependencies point down the layers, never sideways, never up.

use std::collections::BTreeSet;

use crate::workspace::{Dependency, DependencyKind, Package, Workspace};

/// The layer of each crate. `docs/architecture.md` draws and explains them.
const LAYERS: [(&str, u8); 17] = [
    ("larder-core", 1),
    ("larder-memory", 2),
    ("larder-redis", 2),
    ("larder-fallback", 2),
    ("larder-codec", 2),
    ("larder-flight", 2),
    ("larder-strategy", 3),
    ("larder-invalidation", 3),
    ("larder-warming", 3),
    ("larder", 4),
    ("larder-macros", 4),
    ("larder-cli", 5),
    ("larder-demo", 5),
    ("larder-benches", 5),
    ("larder-tests", 5),
    ("xtask", 5),
    (TESTING, TESTING_LAYER),
];

/// Stands beside the layers: it may use the lowest one only, and only tests may use it, and the demo, which starts servers
/// of its own.
const TESTING: &str = "larder-testing";
const TESTING_LAYER: u8 = 2;
/// The packages that may: none of them is published.
const TEST_PACKAGES: [&str; 3] = ["larder-benches", "larder-demo", "larder-tests"];

/// Dependencies within a layer that are meant to be: the facade re-exports the attribute.
const WITHIN_A_LAYER: [(&str, &str); 1] = [("larder", "larder-macros")];

/// A procedural macro runs in the compiler of every user, who waits for all that it depends on.
const WITHOUT_WORKSPACE_DEPENDENCIES: &str = "larder-macros";

/// One line for each dependency that breaks the order.
pub(super) fn check(workspace: &Workspace) -> Vec<String> {
    let members = workspace.names();
    workspace.packages.iter().flat_map(|package| check_package(package, &members)).collect()
}

fn check_package(package: &Package, members: &BTreeSet<&str>) -> Vec<String> {
    let name = package.name.as_str();
    let Some(layer) = layer_of(name) else {
        return vec![format!("`{name}` has no layer: add it to LAYERS in xtask/src/tidy/layers.rs")];
    };
    let internal = package.dependencies.iter().filter(|dependency| members.contains(dependency.name.as_str()));
    internal
        .filter_map(|dependency| match dependency.kind {
            DependencyKind::Dev => check_dev(name, dependency),
            DependencyKind::Normal | DependencyKind::Build => check_normal(name, layer, &dependency.name),
        })
        .collect()
}

fn check_dev(name: &str, dependency: &Dependency) -> Option<String> {
    let target = &dependency.name;
    dependency.versioned.then(|| {
        format!(
            "the dev-dependency of `{name}` on `{target}` has a version: write `{target} = {{ path = \"../{target}\" }}`, \
             so that publishing does not wait for a cycle"
        )
    })
}

fn check_normal(name: &str, layer: u8, target: &str) -> Option<String> {
    if name == WITHOUT_WORKSPACE_DEPENDENCIES {
        return Some(format!("`{name}` depends on `{target}`, but may depend on no crate of the workspace"));
    }
    if target == TESTING {
        return (!TEST_PACKAGES.contains(&name))
            .then(|| format!("`{name}` depends on `{target}`, which may only be a dev-dependency"));
    }
    let below = layer_of(target)?;
    if below < layer || WITHIN_A_LAYER.contains(&(name, target)) {
        return None;
    }
    Some(if name == TESTING {
        format!("`{name}` depends on `{target}`, but may depend on `larder-core` only")
    } else if below == layer {
        format!("`{name}` depends on `{target}`, its sibling in layer {layer}: dependencies go to lower layers only")
    } else {
        format!("`{name}` (layer {layer}) depends on `{target}` (layer {below}): dependencies go to lower layers only")
    })
}

fn layer_of(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(member, _)| *member == name).map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn package(name: &str, dependencies: &[(&str, DependencyKind)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, kind)| Dependency {
            name: (*name).to_owned(),
            kind: *kind,
            versioned: *kind != DependencyKind::Dev,
        });
        Package {
            name: name.to_owned(),
            dir: PathBuf::new(),
            description: None,
            license: None,
            dependencies: dependencies.collect(),
            features: Vec::new(),
            crate_roots: Vec::new(),
            examples: Vec::new(),
        }
    }

    /// A workspace of all known crates, of which one has the given dependencies.
    fn problems(name: &str, dependencies: &[(&str, DependencyKind)]) -> Vec<String> {
        let mut packages: Vec<Package> = LAYERS.iter().map(|(other, _)| package(other, &[])).collect();
        packages.retain(|other| other.name != name);
        packages.push(package(name, dependencies));
        check(&Workspace { root: PathBuf::new(), packages })
    }

    #[track_caller]
    fn assert_one_problem(problems: &[String], part: &str) {
        assert!(problems.len() == 1 && problems[0].contains(part), "expected {part:?} in {problems:?}");
    }

    #[test]
    fn dependencies_on_lower_layers_pass() {
        let down = [("larder-core", DependencyKind::Normal), ("larder-flight", DependencyKind::Build)];
        assert_eq!(problems("larder", &down), [""; 0]);
    }

    #[test]
    fn crates_from_outside_are_not_looked_at() {
        assert_eq!(problems("larder-core", &[("bytes", DependencyKind::Normal)]), [""; 0]);
    }

    #[test]
    fn a_sibling_is_refused() {
        assert_one_problem(
            &problems("larder-redis", &[("larder-codec", DependencyKind::Normal)]),
            "its sibling in layer 2",
        );
    }

    #[test]
    fn a_higher_layer_is_refused() {
        assert_one_problem(&problems("larder-core", &[("larder-memory", DependencyKind::Normal)]), "(layer 2)");
    }

    #[test]
    fn a_build_dependency_is_held_to_the_same_order() {
        assert_one_problem(&problems("larder-core", &[("larder-memory", DependencyKind::Build)]), "(layer 2)");
    }

    #[test]
    fn the_facade_may_use_its_macros() {
        assert_eq!(problems("larder", &[("larder-macros", DependencyKind::Normal)]), [""; 0]);
    }

    #[test]
    fn the_macros_may_use_no_crate_of_the_workspace() {
        assert_one_problem(&problems("larder-macros", &[("larder-core", DependencyKind::Normal)]), "no crate");
    }

    #[test]
    fn the_test_tools_may_use_core_only() {
        assert_eq!(problems(TESTING, &[("larder-core", DependencyKind::Normal)]), [""; 0]);
        assert_one_problem(&problems(TESTING, &[("larder-memory", DependencyKind::Normal)]), "`larder-core` only");
    }

    #[test]
    fn the_test_tools_are_a_normal_dependency_of_test_packages_only() {
        assert_eq!(problems("larder-tests", &[(TESTING, DependencyKind::Normal)]), [""; 0]);
        assert_one_problem(&problems("larder-warming", &[(TESTING, DependencyKind::Normal)]), "dev-dependency");
    }

    #[test]
    fn a_dev_dependency_may_point_anywhere() {
        assert_eq!(
            problems("larder-core", &[("larder", DependencyKind::Dev), (TESTING, DependencyKind::Dev)]),
            [""; 0]
        );
    }

    #[test]
    fn a_dev_dependency_with_a_version_is_refused() {
        let mut with_version = package("larder-core", &[(TESTING, DependencyKind::Dev)]);
        with_version.dependencies[0].versioned = true;
        let workspace = Workspace { root: PathBuf::new(), packages: vec![with_version, package(TESTING, &[])] };
        assert_one_problem(&check(&workspace), "path = \"../larder-testing\"");
    }

    #[test]
    fn a_crate_without_a_layer_is_refused() {
        assert_one_problem(&problems("larder-axum", &[]), "has no layer");
    }
}
