//! What is known of the world outside: which paths matter, which SDK speaks IMDSv2 since when,
//! which programs behave how. It is data (`imdsmon/data/*.toml`), each entry with its source.

pub mod data;
mod path;
mod product;
pub mod version;

use serde::{Deserialize, Serialize};

use data::Data;
pub use data::{KnowledgeError, PathClass, ProgramFacts, SdkFacts};
use version::Version;

/// The files that are part of the program; the build script has read them too.
const BUILTIN: [&str; 4] = [
    include_str!("../../data/sdks.toml"),
    include_str!("../../data/programs.toml"),
    include_str!("../../data/clouds.toml"),
    include_str!("../../data/paths.toml"),
];

/// An SDK or tool, as its User-Agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sdk {
    /// Name in the knowledge base (`botocore`, `aws-sdk-go-v2`), or the User-Agent's first product.
    pub name: String,
    /// Version as said; `None` if none is said.
    pub version: Option<String>,
}

/// All that is known.
#[derive(Clone, Debug)]
pub struct Knowledge {
    data: Data,
}

impl Knowledge {
    /// What comes with the program.
    pub fn builtin() -> Self {
        let mut knowledge = Self {
            data: Data::default(),
        };
        for text in BUILTIN {
            // The build script has read the same text: it cannot fail here.
            if let Ok(data) = Data::parse(text) {
                knowledge.add(data);
            }
        }
        knowledge
    }

    /// Adds a user's file, whose entries count before those that are there.
    ///
    /// # Errors
    /// If the text is no knowledge file. Nothing is added then.
    pub fn extend(&mut self, text: &str) -> Result<(), KnowledgeError> {
        self.add(Data::parse(text)?);
        Ok(())
    }

    /// Which SDK or tool a User-Agent names; `None` if it names nothing.
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

    /// What is known of an AWS SDK; `None` if `sdk` is none of them.
    pub fn sdk_facts(&self, sdk: &Sdk) -> Option<&SdkFacts> {
        self.data.sdk.iter().find(|facts| *facts.name == *sdk.name)
    }

    /// What is known of a program, by one of its User-Agents or by its executable or script.
    /// `program` may have arguments behind it.
    pub fn program(&self, user_agents: &[&str], program: &str) -> Option<&ProgramFacts> {
        let is_said = |facts: &ProgramFacts| user_agents.iter().any(|a| facts.is_said_by(a));
        let mut all = self.data.program.iter();
        all.find(|facts| is_said(facts) || facts.is_run_by(program))
    }

    /// The version that a User-Agent gives for a program's product.
    pub fn program_version(facts: &ProgramFacts, user_agents: &[&str]) -> Option<Version> {
        let mut products = user_agents.iter().flat_map(|a| product::products(a));
        products
            .find(|p| facts.agents.iter().any(|a| a.eq_ignore_ascii_case(p.name)))
            .and_then(|product| Version::parse(product.version?))
    }

    /// What a request asks for.
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
    /// Whether a User-Agent names it.
    pub fn is_said_by(&self, user_agent: &str) -> bool {
        let mut products = product::products(user_agent);
        products.any(|p| self.agents.iter().any(|a| a.eq_ignore_ascii_case(p.name)))
    }

    /// Whether a program, perhaps with arguments behind it, is it.
    pub fn is_run_by(&self, program: &str) -> bool {
        let mut words = program.split_whitespace().take(64);
        words.any(|word| self.executables.iter().any(|name| is_file(word, name)))
    }
}

fn fits(facts: &SdkFacts, product: &product::Product<'_>) -> bool {
    let mut names = facts.products.iter();
    names.any(|name| name.eq_ignore_ascii_case(product.name))
        && facts.major.is_none_or(|major| {
            let version = product.version.and_then(Version::parse);
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
