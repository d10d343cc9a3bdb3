// Fetches credentials as the AWS SDK for JavaScript v2 does on an instance, and prints its version.
// With `metadata` it then asks for the instance id through the same SDK's MetadataService.
//
// `node aws_sdk_js_2.js [metadata]`, with the version of the SDK to use in NODE_PATH.

// Calls the simulated metadata service only.
if (!require("fs").readFileSync("/proc/net/unix", "utf8").includes("@imdsmon-sandbox")) {
  console.error("outside the IMDS simulator");
  process.exit(1);
}

process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const AWS = require("aws-sdk");

// Only the times are others than by default.
const options = { httpOptions: { timeout: 3000 }, maxRetries: 0 };

function fail(error) {
  console.error(error.message);
  process.exit(1);
}

const credentials = new AWS.EC2MetadataCredentials(options);
credentials.get((error) => {
  if (error) fail(error);
  console.log(AWS.VERSION);
  if (!process.argv.includes("metadata")) return;
  const service = new AWS.MetadataService(options);
  service.request("/latest/meta-data/instance-id", (error, id) => {
    if (error) fail(error);
    console.log(id);
  });
});
