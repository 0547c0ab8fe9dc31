# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash completion of syncfs, syncfsd and syncfsctl; installed under each of the three names.

_syncfs_complete() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local words=''

	COMPREPLY=()
	case $1:$before in
	syncfs:-o)
		local prefix=''
		[[ $word == *,* ]] && prefix=${word%,*},
		mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "url= token_file= backing= state= uid= gid= namespace= config= \
			durable=none durable=local durable=fsync durable=close offline=eio offline=block: offline=defer \
			passthrough=auto passthrough=off poll_interval= label= adopt insecure allow_other ro" -- "${word##*,}")
		compopt -o nospace
		return
		;;
	syncfs:*) [[ $word == -* ]] && words='-o -f -d -h -V' ;;
	syncfsd:--root | syncfsd:--token-file | syncfsd:--config | syncfsd:--tls-cert | syncfsd:--tls-key) ;;
	syncfsd:token) words='add list revoke' ;;
	syncfsd:*)
		words='--root --listen --token-file --tls-cert --tls-key --config --namespace --adopt --debug --help --version token approve reject new-epoch'
		;;
	syncfsctl:syncfsctl) words='status wait token conflicts pause resume reconnect approve restore --json --help --version' ;;
	syncfsctl:*) [[ $word == -* ]] && words='--timeout --seq --json' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	[ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}

complete -F _syncfs_complete syncfs syncfsd syncfsctl
