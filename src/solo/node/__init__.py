"""The node agent: pods of one machine as supervised host processes."""
