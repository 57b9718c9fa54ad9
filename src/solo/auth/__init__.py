"""Who is calling and what they may do: certificates, service-account tokens, role-based access control."""
