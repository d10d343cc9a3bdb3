# Fetches credentials as the AWS SDK for Ruby v3 does on an instance, and prints when they expire.
#
# `ruby aws_sdk_ruby_3.rb`

# Calls the simulated metadata service only.
abort "outside the IMDS simulator" unless File.read("/proc/net/unix").include?("@imdsmon-sandbox")

require "aws-sdk-core"

# Only the times are others than by default.
credentials = Aws::InstanceProfileCredentials.new(
  retries: 0, http_open_timeout: 3, http_read_timeout: 3
)
abort "no credentials" unless credentials.set?
puts credentials.expiration
