use super::*;

fn process(name: &str, args: &str, above: &[&str]) -> Process {
    let words = |line: &str| {
        line.split('|')
            .map(ByteString::from)
            .collect::<Vec<ByteString>>()
    };
    let mut process = Process::new(&crate::event::Task {
        exe_name: Some(name.into()),
        argv: Some(words(args)),
        ..Default::default()
    });
    for line in above {
        let args = words(line);
        let name = file_name(&args[0]).to_vec();
        process.ancestors.push((1, ByteString(name)));
        process.ancestor_args.push(args);
    }
    process
}

#[test]
fn a_descriptor_is_no_script() {
    let curl = process("curl", "curl|http://h/", &["bash|/dev/fd/63"]);
    assert_eq!(program(&curl), "curl");
}

#[test]
fn a_program_is_what_its_owner_calls_it() {
    for (name, args, expected) in [
        ("nginx", "nginx: worker process", "nginx"),
        (
            "amazon-ssm-agen",
            "/usr/bin/amazon-ssm-agent",
            "amazon-ssm-agen",
        ),
        (
            "python3.11",
            "/usr/bin/python3|/opt/app/worker.py|--port|80",
            "python3 /opt/app/worker.py",
        ),
        ("python3.11", "python3|-m|flask|run", "python3 -m flask"),
        (
            "java",
            "java|-Xmx1g|-jar|/srv/app.jar",
            "java -jar /srv/app.jar",
        ),
        (
            "java",
            "java|-cp|a.jar|com.example.Main|x",
            "java com.example.Main",
        ),
        ("node", "node|server.js", "node server.js"),
        ("dash", "/bin/sh|/etc/cron.d/x", "dash /etc/cron.d/x"),
        (
            "ruby3.1",
            "puma 5.6.5 (tcp://0.0.0.0:9292) [shop]",
            "ruby puma",
        ),
        ("python3.11", "gunicorn: worker [shop]", "python3 gunicorn"),
        ("bash", "-bash", "bash"),
        ("python3.11", "/usr/bin/python3", "python3"),
        ("aws", "aws|s3|ls|s3://bucket-123", "aws s3 ls"),
        (
            "aws",
            "aws|--region|eu-west-1|--debug|opsworks|register|--x",
            "aws opsworks register",
        ),
        ("aws", "aws|--region=eu-west-1|s3|cp|a|b", "aws s3 cp"),
        ("aws", "aws|../../x", "aws"),
        (
            "python3.11",
            "/usr/bin/python3|/usr/bin/aws|ec2|describe-instances",
            "aws ec2 describe-instances",
        ),
        ("busybox", "wget|-qO-|http://h/", "busybox wget"),
        ("busybox", "busybox|wget|http://h/", "busybox wget"),
        (
            "curl",
            "curl|-H|x|http://169.254.169.254/latest/meta-data/instance-id",
            "curl",
        ),
        (
            "python3.11",
            "python3|-c|import  boto3\nprint(1)",
            "python3 -c import boto3 print(1)",
        ),
        ("", "", ""),
    ] {
        assert_eq!(
            program(&process(name, args, &[])),
            expected,
            "{name} {args}"
        );
    }
}

#[test]
fn a_bare_tool_is_named_with_its_script() {
    for (name, args, above, expected) in [
        (
            "curl",
            "curl|x",
            &["bash|/opt/backup.sh"][..],
            "curl from /opt/backup.sh",
        ),
        (
            "curl",
            "curl|x",
            &["sh|-c|curl x", "/usr/bin/python3|/opt/app.py"],
            "curl from /opt/app.py",
        ),
        (
            "curl",
            "curl|x",
            &["", "java|-jar|app.jar"],
            "curl from java -jar app.jar",
        ),
        (
            "curl",
            "curl|x",
            &["-bash", "sshd", "bash|/start.sh"],
            "curl",
        ),
        (
            "curl",
            "curl|x",
            &["sh", "containerd-shim", "sh|/start.sh"],
            "curl",
        ),
        (
            "busybox",
            "wget|x",
            &["sh|/entrypoint.sh"],
            "busybox wget from /entrypoint.sh",
        ),
        (
            "aws",
            "aws|s3|ls",
            &["bash|/opt/a.sh"],
            "aws s3 ls from /opt/a.sh",
        ),
        (
            "perl",
            "perl|-e|get",
            &["bash|/opt/a.sh"],
            "perl -e get from /opt/a.sh",
        ),
        ("nginx", "nginx", &["bash|/start.sh"], "nginx"),
        (
            "python3",
            "python3|/a.py",
            &["bash|/start.sh"],
            "python3 /a.py",
        ),
    ] {
        assert_eq!(
            program(&process(name, args, above)),
            expected,
            "{args} {above:?}"
        );
    }
}

#[test]
fn varying_parts_make_no_new_program() {
    let same = |one: (&str, &str), other: (&str, &str)| {
        let program =
            |(name, args)| program(&process(name, args, &["bash|/tmp/tmp.Ab12Cd34Ef/x.sh"]));
        assert_eq!(program(one), program(other));
    };
    same(
        ("curl", "curl|http://h/a"),
        ("curl", "curl|-s|http://h/b?t=1700000000"),
    );
    same(
        ("bash", "bash|/tmp/tmp.Ab12Cd34Ef/x.sh"),
        ("bash", "bash|/tmp/tmp.Zz99Yy88Xx/x.sh"),
    );
    same(("bash", "bash|/dev/fd/63"), ("bash", "bash|/dev/fd/62"));
    same(("aws", "aws|s3|cp|a1|b1"), ("aws", "aws|s3|cp|a2|b2"));
    same(
        ("node", "node|-e|f(1700000001)"),
        ("node", "node|-e|f(1700000002)"),
    );
}

proptest::proptest! {
    #[test]
    fn a_program_is_one_short_line(
        name in "(curl|aws|python3|bash|busybox|.{0,20})",
        args in proptest::collection::vec("(-c|-m|run-[0-9]{8}|.{0,300})", 0..6),
        above in proptest::collection::vec(proptest::collection::vec("(bash|python3|-e|.{0,300})", 0..4), 0..4),
    ) {
        let mut process = process("x", "x", &[]);
        process.name = name.as_str().into();
        process.args = args.into_iter().map(ByteString::from).collect();
        process.ancestors = above.iter().map(|_| (1, ByteString::default())).collect();
        process.ancestor_args = above
            .into_iter()
            .map(|args| args.into_iter().map(ByteString::from).collect())
            .collect();
        let program = program(&process);
        proptest::prop_assert!(program.len() <= 256, "{}", program.len());
        proptest::prop_assert!(!program.contains(char::is_control));
    }
}
