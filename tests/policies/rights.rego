# No rights beyond those of an ordinary process.
package policies.rights

pod := input.review.object.spec

containers contains one if some one in pod.containers
containers contains one if some one in pod.initContainers

violation contains {"msg": msg} if {
	some name in ["hostNetwork", "hostPID", "hostIPC"]
	pod[name]
	msg := sprintf("the pod has %v", [name])
}

violation contains {"msg": "the pod has a token of the API"} if not pod.automountServiceAccountToken == false

violation contains {"msg": "the pod may run as root"} if not pod.securityContext.runAsNonRoot == true

violation contains {"msg": "the pod has no seccomp profile"} if not pod.securityContext.seccompProfile.type == "RuntimeDefault"

violation contains {"msg": msg} if {
	some volume in pod.volumes
	some kind, _ in volume
	not kind in {"name", "configMap", "csi", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
	msg := sprintf("volume %v is of the kind %v", [volume.name, kind])
}

violation contains {"msg": msg} if {
	some one in containers
	not one.securityContext.allowPrivilegeEscalation == false
	msg := sprintf("container %v may gain rights", [one.name])
}

violation contains {"msg": msg} if {
	some one in containers
	not one.securityContext.readOnlyRootFilesystem == true
	msg := sprintf("container %v may write to its image", [one.name])
}

violation contains {"msg": msg} if {
	some one in containers
	not "ALL" in one.securityContext.capabilities.drop
	msg := sprintf("container %v keeps capabilities", [one.name])
}

violation contains {"msg": msg} if {
	some one in containers
	some name in one.securityContext.capabilities.add
	msg := sprintf("container %v adds %v", [one.name, name])
}
