"""What the API serves: resources, their rules, custom resources and admission."""
