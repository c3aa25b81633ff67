//! Nonlinear views, for the tests of `remap --order`: what they show, and sessions to make them in.

use crate::support::{mmapctl, page_size};
use std::path::Path;

/// The methods of a nonlinear mapping.
pub const METHODS: [&str; 2] = ["mmap", "remap-file-pages"];

/// The pages of `bytes` in the order given, as a view has them: zeros behind the end of the last page, unless the view
/// ends with it.
pub fn view(bytes: &[u8], order: &[usize]) -> Vec<u8> {
    let page = page_size() as usize;
    let mut view = Vec::new();
    for (at, number) in order.iter().enumerate() {
        let piece = &bytes[number * page..bytes.len().min((number + 1) * page)];
        view.extend_from_slice(piece);
        if at + 1 < order.len() {
            view.resize((at + 1) * page, 0);
        }
    }
    view
}

/// `map f` with these verbs.
pub fn session(dir: &Path, verbs: &[&str]) -> std::process::Output {
    session_with(dir, &["f"], verbs)
}

/// `map` of this with these verbs.
pub fn session_with(dir: &Path, what: &[&str], verbs: &[&str]) -> std::process::Output {
    let mut args = vec!["-q", "map"];
    args.extend(what);
    args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
    mmapctl(dir, &args).output().unwrap()
}
