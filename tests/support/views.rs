//! Nonlinear views, for the tests of `remap --order`.
use super::page_size;

/// The methods of a nonlinear mapping.
pub const METHODS: [&str; 2] = ["mmap", "remap-file-pages"];

/// The pages of `bytes` in the order given, as a view has them: zeros after the end of the last page, unless the view
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
