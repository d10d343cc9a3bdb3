//! The knowledge base: the first version of each SDK with IMDSv2 support, programs with known
//! behavior, and what paths hold. It is data (`imdsmon/data/*.toml`), each entry with its source.

pub(crate) mod data;
mod path;
mod product;
pub(crate) mod version;

use serde::{Deserialize, Serialize};

use data::Data;
pub(crate) use data::{KnowledgeError, PathClass, ProgramFacts, SdkFacts};
use version::SoftwareVersion;

/// The files that are part of the program; the build script parses them too.
const BUILTIN: [&str; 4] = [
    include_str!("../../data/sdks.toml"),
    include_str!("../../data/programs.toml"),
    include_str!("../../data/clouds.toml"),
    include_str!("../../data/paths.toml"),
];

/// An SDK or tool, as named by a User-Agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sdk {
    /// Name in the knowledge base (`botocore`, `aws-sdk-go-v2`), or the User-Agent's first product.
    pub name: String,
    /// Version as written; `None` if there is none.
    pub version: Option<String>,
}

/// The built-in entries and those of the user's files.
#[derive(Clone, Debug)]
pub struct Knowledge {
    data: Data,
}

impl Knowledge {
    /// The entries that are part of the program.
    pub fn builtin() -> Self {
        let mut knowledge = Self {
            data: Data::default(),
        };
        for text in BUILTIN {
            // Cannot fail: the build script has parsed the same text.
            if let Ok(data) = Data::parse(text) {
                knowledge.add(data);
            }
        }
        knowledge
    }

    /// Adds a user's file, whose entries take precedence.
    ///
    /// # Errors
    /// If the text is not a knowledge file. Adds nothing then.
    pub(crate) fn extend(&mut self, text: &str) -> Result<(), KnowledgeError> {
        self.add(Data::parse(text)?);
        Ok(())
    }

    /// The SDK or tool that a User-Agent names, if any.
    pub fn sdk(&self, user_agent: &str) -> Option<Sdk> {
        let products: Vec<_> = product::products(user_agent).collect();
        let known = self.data.sdk.iter().find_map(|facts| {
            let product = products.iter().find(|product| fits(facts, product))?;
            Some((facts.name.to_string(), product.version))
        });
        let (name, version) = match known {
            Some(known) => known,
            None => products.first().map(|p| (p.name.to_owned(), p.version))?,
        };
        Some(Sdk {
            name,
            version: version.map(str::to_owned),
        })
    }

    /// The entry of an AWS SDK; `None` if `sdk` is not one.
    pub(crate) fn sdk_facts(&self, sdk: &Sdk) -> Option<&SdkFacts> {
        self.data.sdk.iter().find(|facts| *facts.name == *sdk.name)
    }

    /// The entry of a program, by one of its User-Agents or by its executable or script.
    /// `program` may include arguments.
    pub(crate) fn program(&self, user_agents: &[&str], program: &str) -> Option<&ProgramFacts> {
        let is_said =
            |facts: &ProgramFacts| user_agents.iter().any(|a| facts.matches_user_agent(a));
        let mut all = self.data.program.iter();
        all.find(|facts| is_said(facts) || facts.is_run_by(program))
    }

    /// The version of a program's product in a User-Agent.
    pub(crate) fn program_version(
        facts: &ProgramFacts,
        user_agents: &[&str],
    ) -> Option<SoftwareVersion> {
        let mut products = user_agents.iter().flat_map(|a| product::products(a));
        products
            .find(|p| facts.agents.iter().any(|a| a.eq_ignore_ascii_case(p.name)))
            .and_then(|product| SoftwareVersion::parse(product.version?))
    }

    /// The class of a request.
    pub fn path_class(&self, method: &str, path: &str) -> PathClass {
        path::class(&self.data, method, path)
    }

    fn add(&mut self, data: Data) {
        let Data {
            sdk,
            program,
            cloud,
            path,
        } = data;
        self.data.sdk.splice(0..0, sdk);
        self.data.program.splice(0..0, program);
        self.data.cloud.splice(0..0, cloud);
        self.data.path.splice(0..0, path);
    }
}

impl ProgramFacts {
    pub(crate) fn matches_user_agent(&self, user_agent: &str) -> bool {
        let mut products = product::products(user_agent);
        products.any(|p| self.agents.iter().any(|a| a.eq_ignore_ascii_case(p.name)))
    }

    /// `program` may include arguments.
    pub(crate) fn is_run_by(&self, program: &str) -> bool {
        let mut words = program.split_whitespace().take(64);
        words.any(|word| self.executables.iter().any(|name| is_file(word, name)))
    }
}

fn fits(facts: &SdkFacts, product: &product::Product<'_>) -> bool {
    let mut names = facts.products.iter();
    names.any(|name| name.eq_ignore_ascii_case(product.name))
        && facts.major.is_none_or(|major| {
            let version = product.version.and_then(SoftwareVersion::parse);
            version.is_some_and(|version| version.major() == major)
        })
}

/// Whether `path` is, or ends with, `name`.
fn is_file(path: &str, name: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

#[cfg(test)]
mod tests;
