use super::*;

fn sdk(user_agent: &str) -> Option<(String, Option<String>)> {
    let sdk = Knowledge::builtin().sdk(user_agent)?;
    Some((sdk.name, sdk.version))
}

#[test]
fn every_builtin_file_is_parsed_completely() {
    let data = Knowledge::builtin().data;
    let [sdks, programs, clouds, paths] = BUILTIN.map(|text| text.matches("\n[[").count());
    assert_eq!(data.sdk.len(), sdks);
    assert_eq!(data.program.len(), programs);
    assert_eq!(data.cloud.len(), clouds);
    assert_eq!(data.path.len(), paths);
    let sources = data.sdk.iter().map(|facts| &facts.source);
    let sources = sources.chain(data.program.iter().map(|facts| &facts.source));
    let sources = sources.chain(data.cloud.iter().map(|facts| &facts.source));
    let sources = sources.chain(data.path.iter().map(|facts| &facts.source));
    assert!(data.cloud.iter().any(|facts| facts.name.contains("Azure")));
    for source in sources {
        let is_public = source.starts_with("https://") || source.starts_with("tests/corpus/");
        assert!(is_public, "{source:?}");
    }
}

#[test]
fn real_user_agents_name_their_sdk() {
    for (user_agent, name, version) in [
        (
            "Boto3/1.10.28 Python/3.8.18 Linux/6.18.44 Botocore/1.13.50",
            "botocore",
            "1.13.50",
        ),
        (
            "aws-cli/1.46.3 Python/3.13.0 Linux/6.18.44 botocore/1.43.62",
            "aws-cli",
            "1.46.3",
        ),
        (
            "aws-sdk-go/1.44.133 (go1.19.8; linux; amd64)",
            "aws-sdk-go",
            "1.44.133",
        ),
        (
            "aws-sdk-go-v2/1.17.1 os/linux lang/go/1.19.8 ft/ec2-imds",
            "aws-sdk-go-v2",
            "1.17.1",
        ),
        (
            "aws-sdk-java/1.11.600 Linux/5 Java/8",
            "aws-sdk-java",
            "1.11.600",
        ),
        ("aws-sdk-java/2.20.1", "aws-sdk-java-v2", "2.20.1"),
        (
            "aws-sdk-nodejs/2.500.0 linux/v20.20.2",
            "aws-sdk-js-v2",
            "2.500.0",
        ),
        ("aws-sdk-ruby3/3.168.1", "aws-sdk-ruby", "3.168.1"),
        ("curl/7.88.1", "curl", "7.88.1"),
        ("Python/3.13 aiohttp/3.14.5", "Python", "3.13"),
    ] {
        let expected = Some((name.to_owned(), Some(version.to_owned())));
        assert_eq!(sdk(user_agent), expected, "{user_agent}");
    }
    assert_eq!(sdk("Wget"), Some(("Wget".to_owned(), None)));
    assert_eq!(sdk("(comment (in a comment) aws-cli/1)"), None);
    for nothing in ["", "   ", "/", "/1.0", &"x".repeat(1000)] {
        assert_eq!(sdk(nothing), None, "{nothing}");
    }
}

#[test]
fn a_path_has_one_class_in_every_spelling() {
    use PathClass::{Credentials, Description, Identity, OtherCloud, Token, UserData};
    let knowledge = Knowledge::builtin();
    for (path, class) in [
        (
            "/latest/meta-data/iam/security-credentials/role",
            Credentials,
        ),
        ("/latest//meta-data/iam/./security-credentials", Credentials),
        (
            "/2021-03-23/meta-data/iam/x/../security%2Dcredentials/r",
            Credentials,
        ),
        (
            "/latest/meta-data/identity-credentials/ec2/info",
            Credentials,
        ),
        ("/latest/user-data", UserData),
        ("/latest/dynamic/instance-identity/document", Identity),
        ("/latest/meta-data/public-keys/0/openssh-key", Identity),
        ("/latest/meta-data/instance-id", Description),
        (
            "/latest/meta-data/iam/security-credentials-of-mine",
            Description,
        ),
        ("/latest/user-database", Description),
        ("/latest/meta-data/user-data", Description),
        ("/computeMetadata/v1/?recursive=true", OtherCloud),
        ("/metadata/instance", OtherCloud),
        ("/opc/v2/instance/", OtherCloud),
        ("/openstack", OtherCloud),
        ("/latest/openstack", Description),
        ("/", Description),
        ("", Description),
        ("/latest/api/token", Description),
        ("%", Description),
        ("/%2", Description),
        ("/%ff%00", Description),
    ] {
        assert_eq!(knowledge.path_class("GET", path), class, "{path}");
    }
    assert_eq!(knowledge.path_class("PUT", "/latest/api/token/"), Token);
}

#[test]
fn a_user_file_takes_precedence() {
    let mut knowledge = Knowledge::builtin();
    let before = knowledge.path_class("GET", "/acme/instance");
    let text = r#"
        [[sdk]]
        name = "acme-sdk"
        title = "ACME SDK"
        products = ["acme", "curl"]
        minimum = "2.0"
        source = "ticket 17"
        [[cloud]]
        name = "ACME"
        paths = ["/acme/"]
        source = "ticket 17"
    "#;
    knowledge.extend(text).unwrap();
    assert_eq!(before, PathClass::Description);
    let after = knowledge.path_class("GET", "/acme/instance");
    assert_eq!(after, PathClass::OtherCloud);
    let sdk = knowledge.sdk("curl/8.0").unwrap();
    assert_eq!(sdk.name, "acme-sdk");
    assert_eq!(&*knowledge.sdk_facts(&sdk).unwrap().title, "ACME SDK");
}

#[test]
fn an_invalid_file_names_its_line_and_adds_nothing() {
    let mut knowledge = Knowledge::builtin();
    for (text, line, what) in [
        ("\n[[sdkk]]\n", 2, "unknown key `sdkk`; did you mean `sdk`?"),
        (
            "[[program]]\nname = \"x\"\nexecutable = [\"x\"]\nsource = \"y\"\n",
            3,
            "unknown key `executable`; did you mean `executables`?",
        ),
        (
            "[[path]]\nzzz = 1\n",
            2,
            "unknown key `zzz`; use one of path, class, source",
        ),
        (
            "[[path]]\npath = \"a//b\"\nclass = \"token\"\nsource = \"s\"\n",
            2,
            "must be a path without empty components",
        ),
        (
            "[[path]]\npath = \"a\"\nclass = \"token\"\nsource = \" \"\n",
            4,
            "must not be empty",
        ),
        (
            "[[program]]\nname = \"lonely\"\nsource = \"s\"\n",
            2,
            "`lonely` has no key `agents` or `executables`; add one",
        ),
        (
            "[[program]]\nname = \"x\"\nagents = [\"x\"]\nsource = \"s\"\ntokens-since = \"soon\"\n",
            5,
            "`soon` is not a version; begin with a number",
        ),
    ] {
        let error = knowledge.extend(text).unwrap_err();
        assert_eq!((error.line, error.what.as_str()), (line, what), "{text}");
    }
    assert_eq!(knowledge.extend("[[sdk]\n").unwrap_err().line, 1);
    assert!(knowledge.extend(&"#".repeat(2 << 20)).is_err());
    assert_eq!(
        knowledge.data.sdk.len(),
        Knowledge::builtin().data.sdk.len()
    );
}

#[test]
fn a_program_is_known_by_executable_or_user_agent() {
    let knowledge = Knowledge::builtin();
    let name = |agents: &[&str], program| {
        let facts = knowledge.program(agents, program)?;
        Some(facts.name.to_string())
    };
    let salt = ["Salt/3007.4 http.query()"];
    assert_eq!(name(&salt, "python3 x"), Some("Salt".into()));
    let facts = knowledge.program(&salt, "").unwrap();
    let version = Knowledge::program_version(facts, &salt);
    assert_eq!(version, SoftwareVersion::parse("3007.4"));
    let ssm = "/usr/bin/amazon-ssm-agent";
    assert_eq!(name(&[], ssm), Some("amazon-ssm-agent".into()));
    let datadog = "/opt/datadog-agent/bin/agent/agent run";
    assert_eq!(name(&[], datadog), Some("Datadog Agent".into()));
    assert_eq!(name(&[], "/opt/other/agent"), None);
    assert_eq!(name(&["curl/8"], "not-osqueryd"), None);
}

#[test]
fn the_documented_example_is_valid() {
    let text = include_str!("../../../docs/reference/knowledge.md");
    let (_, text) = text.split_once("```toml\n").unwrap();
    let (example, _) = text.split_once("```").unwrap();
    let mut knowledge = Knowledge::builtin();
    knowledge.extend(example).unwrap();
    let sdk = knowledge.sdk("AcmeSDK/1.7.0 other/1").unwrap();
    assert_eq!(sdk.name, "acme-sdk");
    let facts = knowledge
        .program(&["acme-agent/2.4"], "acme-agent")
        .unwrap();
    assert_eq!(&*facts.name, "Acme agent");
}
