"""Many runs of one recipe under different values, of which the poor ones end early."""
