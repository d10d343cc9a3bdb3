// Fetches credentials as the AWS SDK for JavaScript v3 does on an instance, and prints when they
// expire.
//
// `node aws_sdk_js_3.js`, with the version of the SDK to use in NODE_PATH.

// Calls the simulated metadata service only.
if (!require("fs").readFileSync("/proc/net/unix", "utf8").includes("@imdsmon-sandbox")) {
  console.error("outside the IMDS simulator");
  process.exit(1);
}

const { fromInstanceMetadata } = require("@aws-sdk/credential-providers");

// Only the time is another than by default.
fromInstanceMetadata({ timeout: 3000, maxRetries: 0 })().then(
  (credentials) => console.log(credentials.expiration.toISOString()),
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
