//! The products of a User-Agent (RFC 9110, 10.1.5): `name/version`, comments left out.

/// Products of one User-Agent that are compared.
const MAX_PRODUCTS: usize = 32;
/// Bytes of a name or a version; longer ones are ignored.
const MAX_NAME_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: Option<&'a str>,
}

/// The products, in order.
pub(super) fn products(user_agent: &str) -> impl Iterator<Item = Product<'_>> {
    let mut depth = 0_usize;
    let words = user_agent.split_whitespace().filter(move |word| {
        let is_comment = depth > 0 || word.starts_with('(');
        let count = |c| word.bytes().filter(|&b| b == c).count();
        depth = (depth + count(b'(')).saturating_sub(count(b')'));
        !is_comment
    });
    words.take(MAX_PRODUCTS).filter_map(|word| {
        let (name, version) = word.split_once('/').unwrap_or((word, ""));
        let is_short = |text: &str| (1..=MAX_NAME_BYTES).contains(&text.len());
        is_short(name).then_some(Product {
            name,
            version: Some(version).filter(|version| is_short(version)),
        })
    })
}
