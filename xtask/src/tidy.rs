//! The rules of the house that no compiler knows.
//!
//! Each rule is a pure function from packages, sources or documents to findings, so that it can be tested on bad
//! samples; this file reads the workspace and puts them together.

mod documents;
mod guards;
mod layers;
mod lexer;
mod sources;
mod switches;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::mutations;
use crate::steps::root;
use documents::Document;
use layers::Package;
use sources::Source;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// A file, with its line where there is one, or a package.
    place: String,
    why: String,
}

impl Finding {
    fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { place: place.into(), why: why.into() }
    }

    fn at(source: &Source, line: usize, why: impl Into<String>) -> Self {
        Self::new(format!("{}:{line}", source.path), why)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// Checks the workspace and prints what breaks a rule.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let packages = read_packages(root)?;
    let mut sources = Vec::new();
    for package in &packages {
        read_sources(root, &root.join(&package.folder), &package.name, &mut sources)?;
    }
    let documents = read_documents(root)?;
    let mut findings = layers::check(&packages);
    findings.extend(sources::check(&sources));
    findings.extend(switches::check(&switches::read(root)?, &switches::flags()));
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    findings.extend(documents::check(&documents, &names, &|path| root.join(path).exists()));
    findings.extend(guards::check(&mutations::guards(None, None)?, &documents));
    findings.sort();
    findings.dedup();
    for source in sources.iter().filter(|source| source.is_long()) {
        println!("{}: {} lines; about 500 is the aim", source.path, source.lines());
    }
    if findings.is_empty() {
        let (packages, sources, documents) = (packages.len(), sources.len(), documents.len());
        println!("{packages} packages, {sources} files of code and {documents} documents are tidy");
        return Ok(());
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    bail!("{} breaches of the rules in docs/ARCHITECTURE.md", findings.len())
}

fn read_packages(root: &Path) -> Result<Vec<Package>> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root.join("Cargo.toml")).no_deps();
    let metadata = command.exec().context("cargo metadata")?;
    let mut packages = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().context("a manifest without a folder")?;
        let folder = folder.as_std_path().strip_prefix(root).context("a package outside the workspace")?;
        let normal = package.dependencies.iter().filter(|on| on.kind != DependencyKind::Development);
        packages.push(Package {
            name: package.name.to_string(),
            folder: folder.to_string_lossy().replace('\\', "/"),
            manifest: std::fs::read_to_string(&package.manifest_path)?,
            depends_on: normal.map(|on| on.name.clone()).collect(),
        });
    }
    Ok(packages)
}

/// All Rust files of a folder and those below.
fn read_sources(root: &Path, folder: &Path, package: &str, sources: &mut Vec<Source>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            read_sources(root, &path, package, sources)?;
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            sources.push(Source::new(package, &relative, &std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn read_documents(root: &Path) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut folders = vec![root.join("docs")];
    let readme = root.join("README.md");
    let mut files = if readme.exists() { vec![readme] } else { vec![] };
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => files.push(path),
                false => {}
            }
        }
    }
    for path in files {
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        documents.push(Document { path: relative, text: std::fs::read_to_string(&path)? });
    }
    Ok(documents)
}
