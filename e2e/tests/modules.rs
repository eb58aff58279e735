//! No circle of modules: in the crates below, the top modules' imports form a tree of layers.
//!
//! An import is each path that starts with `crate::`, in code, in `use` and inside macros. Names that `lib.rs` re-exports
//! count as imports of the module that defines them. Unit tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, UseTree};

/// Crates without a circle of modules.
const CRATES: [&str; 10] =
    ["agent-protocol", "base", "engine", "manager", "manager-api", "net", "pager", "setup", "vmm", "volume"];

/// From each module to those that it imports, with one file that does.
type Graph = BTreeMap<String, BTreeMap<String, PathBuf>>;

#[test]
fn no_modules_form_a_circle() {
    for name in CRATES {
        let graph =
            read_graph(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src"));
        assert!(graph.len() > 2, "{name}: only {} modules were read", graph.len());
        if let Some(circle) = find_circle(&graph) {
            panic!("crates/{name}: these modules form a circle: {}", describe(&graph, &circle));
        }
    }
}

#[test]
fn a_circle_is_found_and_described() {
    let edge = |to: &str| (to.to_owned(), PathBuf::from("x.rs"));
    let graph = Graph::from([
        ("a".to_owned(), BTreeMap::from([edge("b")])),
        ("b".to_owned(), BTreeMap::from([edge("c")])),
        ("c".to_owned(), BTreeMap::from([edge("b")])),
    ]);
    let circle = find_circle(&graph).expect("a circle");
    assert_eq!(circle, ["b", "c"]);
    assert_eq!(describe(&graph, &circle), "b -> c (x.rs), c -> b (x.rs)");
}

fn read_graph(source: &Path) -> Graph {
    let root = parse(&source.join("lib.rs"));
    let reexports = reexports(&root);
    let mut graph = Graph::new();
    for file in rust_files(source) {
        let relative = file.strip_prefix(source).expect("below the source").to_owned();
        let module = top_module(&relative);
        if module == "lib" || is_test_file(&file) {
            continue;
        }
        let mut imports = Imports::default();
        imports.visit_file(&parse(&file));
        let edges = graph.entry(module.clone()).or_default();
        for name in imports.0 {
            let target = reexports.get(&name).cloned().unwrap_or(name);
            if target != module {
                edges.entry(target).or_insert_with(|| relative.clone());
            }
        }
    }
    graph
}

fn parse(file: &Path) -> syn::File {
    let text = fs::read_to_string(file).expect("readable");
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files.extend(rust_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

/// Whether a file holds unit tests only, as `tests.rs`, or what they share.
fn is_test_file(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs" || name == "test_images.rs")
}

/// `snapshot` of `snapshot.rs` and of `snapshot/draft.rs`.
fn top_module(file: &Path) -> String {
    let first = file.components().next().expect("a component").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The module that defines each name which `lib.rs` re-exports.
fn reexports(root: &syn::File) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for item in &root.items {
        if let Item::Use(ItemUse { tree: UseTree::Path(path), .. }) = item {
            let mut leaves = BTreeSet::new();
            leaf_names(&path.tree, &mut leaves);
            names.extend(leaves.into_iter().map(|name| (name, path.ident.to_string())));
        }
    }
    names
}

fn leaf_names(tree: &UseTree, names: &mut BTreeSet<String>) {
    match tree {
        UseTree::Name(name) => drop(names.insert(name.ident.to_string())),
        UseTree::Rename(rename) => drop(names.insert(rename.rename.to_string())),
        UseTree::Path(path) => leaf_names(&path.tree, names),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaf_names(tree, names)),
        UseTree::Glob(_) => {}
    }
}

/// Names that follow `crate::`.
#[derive(Default)]
struct Imports(BTreeSet<String>);

impl Imports {
    fn add_first_names(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => drop(self.0.insert(path.ident.to_string())),
            UseTree::Name(name) => drop(self.0.insert(name.ident.to_string())),
            UseTree::Rename(rename) => drop(self.0.insert(rename.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_first_names(tree)),
            UseTree::Glob(_) => panic!("`use crate::*` hides what is imported"),
        }
    }

    /// Macros hide their paths from the parser: finds `crate :: name` among their tokens.
    fn add_from_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for window in tokens.windows(4) {
            if let [TokenTree::Ident(first), TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(name)] =
                window
                && first == "crate"
                && (a.as_char(), b.as_char()) == (':', ':')
            {
                self.0.insert(name.to_string());
            }
        }
        for token in tokens {
            if let TokenTree::Group(group) = token {
                self.add_from_tokens(group.stream());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if let UseTree::Path(path) = &item.tree
            && path.ident == "crate"
        {
            self.add_first_names(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(second) = segments.next()
        {
            self.0.insert(second.ident.to_string());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, body: &'ast Macro) {
        self.add_from_tokens(body.tokens.clone());
        visit::visit_macro(self, body);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// The modules of one circle, in the order of their imports.
fn find_circle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| follow(graph, module, &mut Vec::new(), &mut done))
}

fn follow(
    graph: &Graph,
    module: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = path.iter().position(|passed| passed == module) {
        return Some(path[at..].to_vec());
    }
    if done.contains(module) {
        return None;
    }
    path.push(module.to_owned());
    let imports = graph.get(module).into_iter().flat_map(BTreeMap::keys);
    let circle = imports.into_iter().find_map(|next| follow(graph, next, path, done));
    path.pop();
    done.insert(module.to_owned());
    circle
}

fn describe(graph: &Graph, circle: &[String]) -> String {
    let next = circle.iter().cycle().skip(1);
    let edges =
        circle.iter().zip(next).map(|(from, to)| format!("{from} -> {to} ({})", graph[from][to].display()));
    edges.collect::<Vec<_>>().join(", ")
}
