"""AMI: who spoke when in meetings, at the headsets' mix and at a distant microphone."""
