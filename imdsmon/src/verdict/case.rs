//! Input of the rules for one client: its calls, and known facts of its SDK and program.

use super::call_counts::CallCounts;
use crate::{
    http::call::ImdsVersion,
    knowledge::{Knowledge, PathClass, ProgramFacts, Sdk, SdkFacts, version::SoftwareVersion},
    ledger::{
        Cause, ClientStats, Sample,
        client_stats::{PathSeen, is_ec2},
    },
};

pub(super) struct Case<'a> {
    pub(crate) stats: &'a ClientStats,
    pub(crate) counts: CallCounts,
    pub(crate) facts: ClientFacts<'a>,
}

impl<'a> Case<'a> {
    pub(super) fn new(stats: &'a ClientStats, knowledge: &'a Knowledge) -> Self {
        Self {
            stats,
            counts: CallCounts::of(stats),
            facts: ClientFacts::of(stats, knowledge),
        }
    }

    /// Whether the client requests tokens, successfully or not, or sends the token header.
    pub(super) fn requests_tokens(&self) -> bool {
        let counts = &self.counts;
        counts.after_failure()
            + counts.with_token
            + counts.empty_header
            + counts.put_ok
            + counts.put_failed()
            > 0
    }

    /// Whether IMDSv1 calls are for `/` and other clouds' paths only. `/` lists the versions, which
    /// no client needs: libraries of other clouds check it for a header that IMDS does not send
    /// (google-auth's `ping`).
    pub(super) fn requests_only_root(&self) -> bool {
        let evidence = &self.stats.evidence;
        let mut v1 = evidence.paths.iter().filter(|(_, seen)| seen.tokenless > 0);
        let is_harmless = |(path, seen): (&String, &PathSeen)| {
            path.trim_matches('/').is_empty() || seen.class == PathClass::OtherCloud
        };
        evidence.more_paths == 0 && v1.all(is_harmless)
    }

    /// Whether a server that responds names itself, and not as IMDS.
    pub(super) fn has_other_server(&self) -> bool {
        let samples = self.stats.evidence.samples.iter();
        let mut servers = samples.filter_map(|sample| sample.server.as_deref());
        servers.any(|name| !is_ec2(name))
    }

    /// Whether the client lists a path over `IMDSv1` and reads an entry of the list over `IMDSv2`,
    /// or would if it could get a token.
    pub(super) fn lists_then_reads(&self) -> bool {
        let path = |sample: &'a Sample| sample.target.split('?').next().unwrap_or_default();
        let is_unexplained =
            |sample: &&Sample| matches!(sample.cause, Cause::Plain | Cause::DespiteToken);
        let v1 = self.stats.evidence.samples.iter();
        let v1 = v1.filter(|sample| sample.version == ImdsVersion::V1);
        let (lists, fallbacks): (Vec<&Sample>, Vec<&Sample>) = v1.partition(is_unexplained);
        let paths = self.stats.evidence.paths.iter();
        let with_token = paths.filter(|(_, seen)| seen.with_token > 0);
        let with_token = with_token.map(|(path, _)| path.as_str());
        let mut reads = with_token.chain(fallbacks.into_iter().map(path));
        reads.any(|read| lists.iter().any(|list| is_listing_of(path(list), read)))
    }

    /// Whether the client's program is, or names, this tool.
    pub(super) fn runs(&self, tool: &str) -> bool {
        let mut parts = self.stats.client.program.split_whitespace();
        parts.any(|part| part.rsplit('/').next() == Some(tool))
    }
}

/// `/latest/meta-data/iam/security-credentials/` of `.../role`. A list higher up names too much to
/// be requested only to find one name.
fn is_listing_of(list: &str, read: &str) -> bool {
    let list = list.trim_end_matches('/');
    let depth = list.split('/').filter(|part| !part.is_empty()).count();
    let below = read
        .strip_prefix(list)
        .and_then(|rest| rest.strip_prefix('/'));
    depth >= 3 && below.is_some_and(|below| !below.trim_matches('/').is_empty())
}

/// What the knowledge base has on a client's SDK and program.
pub(super) struct ClientFacts<'a> {
    /// The SDK or tool that the User-Agent names.
    pub(crate) sdk: Option<Sdk>,
    pub(crate) sdk_facts: Option<&'a SdkFacts>,
    pub(crate) program: Option<&'a ProgramFacts>,
    pub(crate) program_version: Option<SoftwareVersion>,
}

impl<'a> ClientFacts<'a> {
    fn of(stats: &ClientStats, knowledge: &'a Knowledge) -> Self {
        let samples = &stats.evidence.samples;
        let v1 = samples
            .iter()
            .filter(|sample| sample.version == ImdsVersion::V1);
        let said = v1.map(|sample| sample.user_agent.as_deref());
        let mut agents: Vec<_> = said.clone().flatten().collect();
        agents.sort_unstable();
        agents.dedup();
        let sdks = agents.iter().filter_map(|agent| knowledge.sdk(agent));
        // Of several the known one; of several known ones the first by name.
        let sdk = sdks.min_by_key(|sdk| (knowledge.sdk_facts(sdk).is_none(), sdk.clone()));
        let program = knowledge
            .program(&agents, &stats.client.program)
            .filter(|facts| match &facts.option {
                Some(option) => has_argument(samples, option),
                None => true,
            })
            // A program may use several libraries.
            .filter(|facts| {
                let is_its =
                    |agent: Option<&str>| agent.is_some_and(|a| facts.matches_user_agent(a));
                facts.is_run_by(&stats.client.program) || said.clone().all(is_its)
            });
        let by_agent = program.and_then(|facts| Knowledge::program_version(facts, &agents));
        let by_package = || {
            let package = stats.client.package.as_deref()?;
            SoftwareVersion::parse(package.split_whitespace().last()?)
        };
        Self {
            sdk_facts: sdk.as_ref().and_then(|sdk| knowledge.sdk_facts(sdk)),
            sdk,
            program,
            program_version: by_agent.or_else(|| program.and_then(|_| by_package())),
        }
    }

    /// `None` as well if the SDK's version cannot be parsed.
    pub(super) fn sdk_version(&self) -> Option<SoftwareVersion> {
        SoftwareVersion::parse(self.sdk.as_ref()?.version.as_deref()?)
    }

    pub(super) fn sdk_minimum(&self) -> Option<&'a SoftwareVersion> {
        self.sdk_facts?.minimum.as_ref()
    }

    pub(super) fn sdk_title(&self) -> &str {
        let title = self.sdk_facts.map(|facts| &*facts.title);
        let name = self.sdk.as_ref().map(|sdk| sdk.name.as_str());
        title.or(name).unwrap_or("the SDK")
    }

    pub(super) fn is_old_sdk(&self) -> bool {
        let minimum = self.sdk_minimum().zip(self.sdk_version());
        minimum.is_some_and(|(minimum, version)| version < *minimum)
    }

    /// First version of the program that does not depend on `IMDSv1`.
    pub(super) fn program_since(&self) -> Option<&'a SoftwareVersion> {
        let facts = self.program?;
        facts.tokens_since.as_ref().or(facts.retries_since.as_ref())
    }

    /// Whether the reason for the program's `IMDSv1` calls is known: its version or an option.
    pub(super) fn is_known_tokenless(&self) -> bool {
        let has_option = self.program.is_some_and(|facts| facts.option.is_some());
        (self.program_since().is_some() || has_option) && !self.requests_first()
    }

    /// Whether the program retries with a token when an `IMDSv1` call is rejected.
    pub(super) fn retries(&self) -> bool {
        let since = self.program.and_then(|facts| facts.retries_since.as_ref());
        self.is_since(since) && !self.requests_first()
    }

    /// Whether the program is known to request a token first.
    pub(super) fn requests_first(&self) -> bool {
        self.is_since(self.program.and_then(|facts| facts.tokens_since.as_ref()))
    }

    fn is_since(&self, since: Option<&SoftwareVersion>) -> bool {
        let version = self.program_version.as_ref();
        version
            .zip(since)
            .is_some_and(|(version, since)| version >= since)
    }
}

fn has_argument(samples: &[Sample], option: &str) -> bool {
    let mut args = samples.iter().flat_map(|sample| &sample.args);
    args.any(|arg| arg.split([',', '=', ' ']).any(|part| part == option))
}
