//! What is known of the world outside: which paths matter, which SDK speaks IMDSv2 since when,
//! which programs behave how. It is data (`imdsmon/data/*.toml`), each entry with its source.

use serde::{Deserialize, Serialize};

/// What a request asks for, from harmless to what an attacker wants most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum PathClass {
    /// A session token.
    #[default]
    Token,
    /// A path that only another cloud's metadata service has.
    OtherCloud,
    /// A description of the instance.
    Description,
    /// The instance's identity document, its signatures, public keys.
    Identity,
    /// User data: often holds secrets.
    UserData,
    /// Credentials of a role.
    Credentials,
}

/// An SDK or tool, as its User-Agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sdk {
    /// Name in the knowledge base (`botocore`, `aws-sdk-go-v2`), or the User-Agent's first product.
    pub name: String,
    /// Version as said; `None` if none is said.
    pub version: Option<String>,
}
