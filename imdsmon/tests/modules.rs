//! The modules of the crate depend on each other in one direction only.
//!
//! The table in `src/lib.rs` lists them from the bottom to the top. Every path that production
//! code names (`use` or inline) must lead to the module itself or to one further down, and no files
//! may need each other in a circle. A re-export counts as what it leads to, and a file may always
//! use what its own parent module defines.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, File, Item, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

/// The path of a module or an item below the crate root.
type Names = Vec<String>;

/// What a file is called in a message, and what it names.
struct Source {
    file: PathBuf,
    module: Names,
    /// Absolute paths that production code names.
    named: BTreeSet<Names>,
    /// Name that is re-exported, and the absolute path that it leads to.
    reexports: BTreeMap<String, Names>,
}

#[test]
fn modules_depend_only_on_modules_below_them() {
    let sources = sources();
    let order = order();
    let rank = |module: &str| order.iter().position(|name| name == module);
    let mut wrong = Vec::new();
    for (from, to) in edges(&sources) {
        let (from_file, to_file) = (&sources[from], &sources[to]);
        let (Some(upper), Some(lower)) = (from_file.module.first(), to_file.module.first()) else {
            continue; // lib.rs and main.rs only declare modules
        };
        let (Some(a), Some(b)) = (rank(upper), rank(lower)) else {
            panic!("the table in src/lib.rs lists neither `{upper}` nor `{lower}`, or only one");
        };
        if a < b {
            wrong.push(format!(
                "{} names {}, but `{upper}` stands below `{lower}`",
                from_file.file.display(),
                to_file.file.display(),
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_do_not_need_each_other() {
    let sources = sources();
    let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (from, to) in edges(&sources) {
        next.entry(from).or_default().push(to);
    }
    let mut done = BTreeSet::new();
    for start in 0..sources.len() {
        if let Some(circle) = circle(start, &next, &mut Vec::new(), &mut done) {
            let files: Vec<_> = circle
                .iter()
                .map(|&file| sources[file].file.display().to_string())
                .collect();
            panic!("these files need each other: {}", files.join(" -> "));
        }
    }
}

#[test]
fn table_lists_every_module_once() {
    let listed: BTreeSet<_> = order().into_iter().collect();
    let declared: BTreeSet<_> = sources()
        .iter()
        .filter_map(|source| source.module.first().cloned())
        .collect();
    assert_eq!(listed, declared);
    assert_eq!(order().len(), listed.len(), "a module is listed twice");
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The first column of the table in lib.rs, from the bottom to the top.
fn order() -> Vec<String> {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let mut order: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .filter_map(|row| row.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(order.len() > 10, "src/lib.rs has no table of modules");
    order.reverse();
    order
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(&src(), &mut files);
    files.sort();
    let mut sources: Vec<Source> = files.iter().map(|file| source(file)).collect();
    let children: BTreeSet<Names> = sources.iter().map(|s| s.module.clone()).collect();
    // `use child::Item` in the parent has no `self::`.
    for source in &mut sources {
        let complete = |path: &Names| {
            let mut below = source.module.clone();
            below.extend(path.iter().cloned());
            (1..=below.len())
                .any(|n| n > source.module.len() && children.contains(&below[..n]))
                .then_some(below)
        };
        source.named = source
            .named
            .iter()
            .filter_map(|path| match path.first().map(String::as_str) {
                Some("crate") => Some(path[1..].to_vec()),
                _ => complete(path),
            })
            .collect();
        source.reexports = source
            .reexports
            .iter()
            .filter_map(|(name, path)| match path.first().map(String::as_str) {
                Some("crate") => Some((name.clone(), path[1..].to_vec())),
                _ => complete(path).map(|path| (name.clone(), path)),
            })
            .collect();
    }
    sources
}

/// Every file of production code: none that is only compiled for tests.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name == "test_support" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(file: &Path) -> Source {
    let relative = file.strip_prefix(src()).unwrap().with_extension("");
    let mut module: Names = relative
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    let text = fs::read_to_string(file).unwrap();
    let parsed: File = syn::parse_file(&text).unwrap();
    let mut reader = PathReader {
        module: module.clone(),
        named: BTreeSet::new(),
        reexports: BTreeMap::new(),
    };
    reader.visit_file(&parsed);
    Source {
        file: relative.with_extension("rs"),
        module,
        named: reader.named,
        reexports: reader.reexports,
    }
}

/// Reads the paths of a file, except where it is compiled for tests only.
struct PathReader {
    module: Names,
    named: BTreeSet<Names>,
    reexports: BTreeMap<String, Names>,
}

impl PathReader {
    /// With `crate` in front if it is known to be of this crate.
    fn absolute(&self, path: &[String]) -> Names {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            _ => return path.to_vec(),
        }
        while rest.first().is_some_and(|first| first == "super") {
            base.pop();
            rest = &rest[1..];
        }
        let mut absolute = vec!["crate".to_owned()];
        absolute.extend(base);
        absolute.extend(rest.iter().cloned());
        absolute
    }

    fn use_tree(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let mut path = before.to_vec();
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.use_tree(&part.tree, &path, is_reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, &path, is_reexport);
                }
            }
            UseTree::Name(_) | UseTree::Rename(_) | UseTree::Glob(_) => {
                let (name, known_as) = match tree {
                    UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
                    UseTree::Rename(name) => (name.ident.to_string(), name.rename.to_string()),
                    _ => (String::new(), String::new()),
                };
                if name != "self" && !name.is_empty() {
                    path.push(name);
                }
                let path = self.absolute(&path);
                if is_reexport {
                    self.reexports.insert(known_as, path);
                } else {
                    self.named.insert(path);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for PathReader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        self.use_tree(&item.tree, &[], is_reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1 {
            self.named.insert(self.absolute(&names));
        }
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|condition| condition.is_ident("test"))
}

/// Which file needs which other, by their place in `sources`.
fn edges(sources: &[Source]) -> BTreeSet<(usize, usize)> {
    let by_module: BTreeMap<&[String], usize> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| (&source.module[..], index))
        .collect();
    let mut edges = BTreeSet::new();
    for (from, source) in sources.iter().enumerate() {
        for path in &source.named {
            let to = leads_to(path, sources, &by_module, 0);
            edges.extend(
                to.filter(|&to| to != from && !source.module.starts_with(&sources[to].module))
                    .map(|to| (from, to)),
            );
        }
    }
    edges
}

/// The file that defines what `path` names, through at most eight re-exports.
fn leads_to(
    path: &[String],
    sources: &[Source],
    by_module: &BTreeMap<&[String], usize>,
    depth: usize,
) -> Option<usize> {
    let (length, index) = (1..=path.len())
        .rev()
        .find_map(|n| by_module.get(&path[..n]).map(|&index| (n, index)))?;
    let reexport = path
        .get(length)
        .and_then(|name| sources[index].reexports.get(name));
    match reexport {
        Some(target) if depth < 8 => leads_to(target, sources, by_module, depth + 1),
        _ => Some(index),
    }
}

/// A circle that begins at a file that can be reached from `file`.
fn circle(
    file: usize,
    next: &BTreeMap<usize, Vec<usize>>,
    trail: &mut Vec<usize>,
    done: &mut BTreeSet<usize>,
) -> Option<Vec<usize>> {
    if let Some(start) = trail.iter().position(|&earlier| earlier == file) {
        let mut circle = trail[start..].to_vec();
        circle.push(file);
        return Some(circle);
    }
    if done.contains(&file) {
        return None;
    }
    trail.push(file);
    let found = next
        .get(&file)
        .into_iter()
        .flatten()
        .find_map(|&to| circle(to, next, trail, done));
    trail.pop();
    done.insert(file);
    found
}
