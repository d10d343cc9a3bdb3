use super::*;

fn run(line: &str) -> Option<Script> {
    let args: Vec<ByteString> = line.split(' ').map(ByteString::from).collect();
    let name = line.split(' ').next().unwrap().rsplit('/').next().unwrap();
    script(interpreter(name)?, &args)
}

#[test]
fn the_script_is_found_behind_the_interpreters_own_options() {
    for (line, file) in [
        ("python3 /opt/app/worker.py --port 80", "/opt/app/worker.py"),
        ("/usr/bin/python3.11 -Es -W ignore -X dev app.py", "app.py"),
        ("python3 -Wignore -u app.py", "app.py"),
        ("python2.7 app.py", "app.py"),
        ("pypy3.9 app.py", "app.py"),
        ("perl -w -I lib -MJSON script.pl", "script.pl"),
        ("perl5.36 -Ilib -T script.pl", "script.pl"),
        ("ruby3.1 -r bundler -W0 /usr/bin/puma -C x", "/usr/bin/puma"),
        (
            "node --max-old-space-size=512 -r dotenv server.js",
            "server.js",
        ),
        ("deno run --allow-net server.ts", "server.ts"),
        ("bun server.ts", "server.ts"),
        ("php -d a=b -f cron.php", "cron.php"),
        ("php8.2 artisan queue:work", "artisan"),
        ("bash /etc/cron.d/x", "/etc/cron.d/x"),
        ("sh -e -u ./x.sh a b", "./x.sh"),
        ("bash -eo pipefail x.sh", "x.sh"),
        ("bash +o posix --norc x.sh", "x.sh"),
        ("bash -- -x.sh", "-x.sh"),
        ("java Hello.java", "Hello.java"),
        ("lua5.4 -l x a.lua", "a.lua"),
        ("dotnet exec --depsfile d app.dll", "app.dll"),
    ] {
        assert_eq!(run(line), Some(Script::File(file.into())), "{line}");
    }
}

#[test]
fn modules_jars_and_classes_are_named_with_their_option() {
    for (line, name) in [
        ("python3 -m http.server 80", "-m http.server"),
        ("python3 -Im pip install", "-m pip"),
        ("python3 -mpip", "-m pip"),
        ("java -Xmx1g -jar app.jar --server", "-jar app.jar"),
        (
            "java -cp a:b -Dx=y com.example.Main arg",
            "com.example.Main",
        ),
        (
            "java --add-opens java.base/java.lang=ALL-UNNAMED -m app/com.Main",
            "-m app/com.Main",
        ),
        ("pwsh -NoProfile -File x.ps1", "-File x.ps1"),
    ] {
        assert_eq!(run(line), Some(Script::Named(name.into())), "{line}");
    }
}

#[test]
fn code_is_told_from_a_script() {
    for (line, option, code) in [
        ("python3 -c import_x a b", "-c", "import_x"),
        ("python3 -Ec import_x", "-c", "import_x"),
        ("perl -MLWP::Simple -e get a", "-e", "get"),
        ("perl -lne print a", "-e", "print"),
        ("ruby -rjson -e puts", "-e", "puts"),
        ("node -e x()", "-e", "x()"),
        ("php -r phpinfo();", "-r", "phpinfo();"),
        ("bash -c curl x", "-c", "curl"),
        ("bash -lc curl", "-c", "curl"),
        ("sh -c -e curl", "-c", "curl"),
    ] {
        assert_eq!(run(line), Some(Script::Code(option, code.into())), "{line}");
    }
}

#[test]
fn where_there_is_no_script_none_is_made_up() {
    for line in [
        "python3",
        "python3 -",
        "bash -i",
        "bash -s",
        "-bash",
        "curl http://h/",
        "java -version",
        "python3 -c",
        "python3 -W",
        "node",
        "sh -c",
        "php-fpm: pool www",
    ] {
        assert_eq!(run(line), None, "{line}");
    }
}

proptest::proptest! {
    #[test]
    fn no_arguments_are_too_strange(name in "(python3|perl|ruby|node|php|bash|java|lua|deno|pwsh)", args: Vec<Vec<u8>>) {
        let args: Vec<ByteString> = args.into_iter().map(ByteString).collect();
        let _ = script(&name, &args);
    }
}
